//! The catalogue of MusicFS and what keeps it true.

mod database;
mod library;
pub mod tags;
