//! Which endpoints a message goes to.
//!
//! [`Router::compile`] reads all routes once. A connection asks [`Router::sources`] once for each place its messages come from
//! and keeps the answer while [`SourceMatch::is_of`] holds; per message only the conditions of those routes are left, and
//! when there are none the destinations are already there.

#![forbid(unsafe_code)]

mod destinations;
mod endpoint;
mod origin;
mod router;
#[cfg(test)]
mod tests;

pub use destinations::{Destination, Destinations, EndpointSet};
pub use endpoint::{Endpoint, EndpointIndex};
pub use origin::Origin;
pub use router::{ROUTES_MAX, RouteError, RouteErrorReason, Router, RouterVersion, SourceMatch};
