//! Where messages come from, as sources of routes see it.

use std::fmt;

/// Where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin<'a> {
    /// A device that uses this one as its gateway.
    Device,
    /// A module, through one of its outputs or without naming one.
    Module {
        /// The module's name.
        module: &'a str,
        /// The output's name.
        output: Option<&'a str>,
    },
    /// Somebody reported properties.
    TwinChange,
}

impl fmt::Display for Origin<'_> {
    /// The message path that sources of routes are prefixes of.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => out.write_str("/messages"),
            Self::Module { module, output: Some(output) } => write!(out, "/messages/modules/{module}/outputs/{output}"),
            Self::Module { module, output: None } => write!(out, "/messages/modules/{module}"),
            Self::TwinChange => out.write_str("/twinChangeNotifications"),
        }
    }
}
