//! Doubles, fault injectors, fixtures and conformance suites for MusicFS and for origins of your own.

pub mod fault_proxy;
pub mod library;
mod wait;

pub use wait::{LIMIT, eventually, eventually_blocking};
