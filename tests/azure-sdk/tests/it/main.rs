//! Azure's own SDKs from PyPI, unmodified, against our programs.

mod actors;
mod device_scenarios;
mod hub_connection;
mod hub_device;
mod hub_module;
mod service;
