//! Sends announcements, and joins the groups that let solicitations in.

mod groups;
mod packet;
mod sender;

#[cfg(test)]
mod testing;

pub use groups::{Groups, JoinError};
pub use sender::{Delivery, Sender};
