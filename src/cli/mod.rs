//! One file per verb: parses, dispatches, maps errors to exit codes.

pub mod error;
pub mod exec;
pub mod global;
pub mod kill;
pub mod logs;
pub mod monitor;
pub mod ps;
pub mod rm;
pub mod run;
pub mod several;
pub mod stop;
pub mod table;
pub mod wait;
