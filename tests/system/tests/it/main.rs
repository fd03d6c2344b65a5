//! Our programs against each other: hub, edge, and the modules that come with it.

mod sdk;
mod shipped_modules;
