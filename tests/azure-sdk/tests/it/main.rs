//! Azure's own SDKs from PyPI, unmodified, against our programs.

mod actors;
mod device_scenarios;
mod edge_module;
mod hub_connection;
mod hub_device;
mod hub_module;
mod hub_time_and_restart;
mod leaf;
mod service;
