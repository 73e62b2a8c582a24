//! Sends announcements, and joins the groups that let solicitations in.

mod conflict;
mod groups;
mod packet;
mod sender;

#[cfg(test)]
mod testing;

pub use conflict::is_claimed;
pub use groups::{Groups, JoinError};
pub use sender::{Delivery, Sender};
