//! A directory of YAML files, in place of a cluster.
//!
//! ```text
//! scan ─ names, contents ─► directory (pure) ─ what changed ─► the agent's event loop
//!                              ▲         └── last good contents ─► store
//!                              └───────────── at the start ───────┘
//! ```
//!
//! A file is taken or refused as a whole. A refused file's last good content stays in force, also
//! over restarts, and everything else goes on.

mod directory;
mod document;
mod notices;
mod read;
mod refused;
mod scan;
mod store;
mod watch;

pub use directory::{Directory, Found, Update};
pub use read::Note;
pub use refused::{Reason, Refused};
pub use scan::Seen;
pub use watch::watch;
