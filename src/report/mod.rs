//! What people look at: text made from domain data. Nothing is printed here.

pub mod exposition;
pub mod history;
pub mod history_html;
pub mod junit;
pub mod markup;
pub mod memory_metrics;
pub mod monitor;
pub mod monitor_table;
pub mod page;
pub mod plot;
pub mod proof;
pub mod proof_metrics;
pub mod screen;
pub mod sparkline;
pub mod stress;
pub mod verdicts;
pub mod verify;
pub mod verify_html;
pub mod why;
