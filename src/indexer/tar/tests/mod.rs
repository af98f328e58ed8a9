//! The reader against handmade archives, archives of other writers, and damage.

mod fields;
mod forms;
mod hostile;
mod sparse;
mod writers;
