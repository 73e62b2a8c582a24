//! Whether pinned maps are as this version of the program needs them.

use std::{collections::BTreeMap, io, path::Path};

use aya::maps::{MapError, MapInfo};

use super::object::Shape;

/// How the maps of a directory compare with what is wanted.
pub(super) enum Fit {
    Nothing,
    Fits,
    Differs { map: &'static str, how: String },
}

impl Fit {
    pub(super) fn of(directory: &Path, wanted: &BTreeMap<&'static str, Shape>) -> Self {
        let mut fit = Self::Nothing;
        for (map, shape) in wanted {
            match pinned_shape(&directory.join(map)) {
                Ok(None) => {}
                Ok(Some(pinned)) if pinned == *shape => fit = Self::Fits,
                Ok(Some(_)) => {
                    let how = "has a different size".to_owned();
                    return Self::Differs { map, how };
                }
                // A map that cannot be read cannot be used.
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    let how = format!("cannot be opened ({error:#})");
                    return Self::Differs { map, how };
                }
            }
        }
        fit
    }
}

/// The shape of the map pinned there, if any.
pub(super) fn pinned_shape(path: &Path) -> Result<Option<Shape>, MapError> {
    let info = match MapInfo::from_pin(path) {
        Ok(info) => info,
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(Some(Shape {
        map_type: info.map_type()? as u32,
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
        flags: info.map_flags(),
    }))
}
