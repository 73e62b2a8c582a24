//! Sends announcements, joins the groups that let solicitations in, and checks whether other hosts
//! use VIPs.

mod conflict;
mod groups;
mod packet;
mod sender;

#[cfg(test)]
mod testing;

pub use conflict::Checker;
pub use groups::{Groups, JoinError};
pub use sender::{Delivery, Sender};
