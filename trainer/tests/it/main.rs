//! The program as its users have it: commands, files and messages, with pictures and networks made here.

mod faults;
mod resume;
mod series;
mod support;
