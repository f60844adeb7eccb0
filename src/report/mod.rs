//! What people look at: text made from domain data. Nothing is printed here.

pub mod monitor;
pub mod proof;
pub mod verify;
