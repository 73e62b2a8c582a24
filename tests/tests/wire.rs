//! The rules of the wire on the loaded program.

use speaker_common::testing::rows;
use speaker_tests::program::{Program, object};

macro_rules! on_the_loaded_program {
    ($($row:ident,)+) => {
        $(
            #[test]
            fn $row() {
                let mut program = Program::load(object::SPEAKER).expect("the object loads");
                rows::$row(&mut program);
            }
        )+
    };
}
speaker_common::wire_rows!(on_the_loaded_program);
