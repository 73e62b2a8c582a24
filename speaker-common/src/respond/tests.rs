//! The wire rules on the host function.

use crate::testing::{Node, rows};

macro_rules! on_the_host {
    ($($row:ident,)+) => {
        $(
            #[test]
            fn $row() {
                rows::$row(&mut Node::new());
            }
        )+
    };
}
crate::wire_rows!(on_the_host);
