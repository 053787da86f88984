//! The rings as a guest fills them, rightly and wrongly, without a machine around them.

mod fuzz;
mod guest;
mod requests;
