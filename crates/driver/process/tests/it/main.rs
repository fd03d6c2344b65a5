//! The process runtime with real processes: the conformance suite, as root also with users and control groups of their
//! own, and what happens when somebody is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it is a test")]

mod backend;
mod limits;
mod orphans;
mod restart;
mod surroundings;

mod as_we_are {
    skerry_module_runtime::conformance_suite!(crate::backend::AsWeAre);
}

mod without_users_and_groups {
    skerry_module_runtime::conformance_suite!(crate::backend::WithoutUsersAndGroups);
}
