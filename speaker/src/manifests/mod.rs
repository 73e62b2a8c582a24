//! A directory of YAML files, in place of a cluster.
//!
//! ```text
//! scan ─ names, contents ─► directory (pure) ─ what changed ─► the agent's event loop
//!                              ▲         └── last good contents ─► store
//!                              └───────────── at the start ───────┘
//! ```
//!
//! A file is accepted or refused as a whole. The last good content of a refused file stays in
//! force, across restarts too, and all other files still count.

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
