//! The uses of `bpf(2)` that aya does not offer.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// Opens a pinned object of any type.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = nothing();
    attributes.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the path ends with a zero and outlives the call.
    let fd = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &mut attributes) }?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins an object, which stays open.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = nothing();
    attributes.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attributes.__bindgen_anon_4.bpf_fd = object.as_raw_fd().cast_unsigned();
    // SAFETY: the path ends with a zero and outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attributes) }.map(drop)
}

/// Detaches a link.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = nothing();
    attributes.link_detach.link_fd = link.as_raw_fd().cast_unsigned();
    // SAFETY: the command takes no pointers.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attributes) }.map(drop)
}

/// The first `count` values of an array, in order, in one system call.
pub(super) fn read_array(
    map: BorrowedFd<'_>,
    value_size: usize,
    count: u32,
) -> io::Result<Vec<u8>> {
    let length = count as usize;
    let mut keys = vec![0_u32; length];
    let mut values = vec![0_u8; length * value_size];
    let mut resume_at = 0_u32;
    let mut attributes = nothing();
    attributes.batch.map_fd = map.as_raw_fd().cast_unsigned();
    attributes.batch.out_batch = ptr::from_mut(&mut resume_at) as u64;
    attributes.batch.keys = keys.as_mut_ptr() as u64;
    attributes.batch.values = values.as_mut_ptr() as u64;
    attributes.batch.count = count;
    if count == 0 {
        return Ok(values);
    }
    // SAFETY: there is room for `count` keys of an array, four bytes each, and as many values of
    // `value_size`, which the caller knows to be the map's; all of it outlives the call.
    let read = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attributes) };
    match read {
        Ok(_) => {}
        // The end of the map was reached.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        Err(error) => return Err(error),
    }
    // SAFETY: the kernel wrote the number of elements read, at most `count`.
    let count = unsafe { attributes.batch.count } as usize;
    values.truncate(count * value_size);
    Ok(values)
}

fn nothing() -> bpf_attr {
    // SAFETY: a union of structures of integers.
    unsafe { mem::zeroed() }
}

/// # Safety
///
/// All pointers in `attributes` are valid for what `command` does with them.
unsafe fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: `attributes` is as long as is said; the rest by the caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            ptr::from_mut(attributes),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(RawFd::try_from(result).expect("a descriptor or zero"))
}
