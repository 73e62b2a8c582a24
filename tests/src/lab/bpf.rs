//! The lab's own BPF programs: a few instructions each, written by hand so that the lab needs
//! neither the BPF toolchain nor the programs under test.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    process,
};

use nix::{
    libc,
    sys::resource::{RLIM_INFINITY, Resource, setrlimit},
};

/// One instruction, as `struct bpf_insn` lays it out.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(code: u8, offset: i16, immediate: i32) -> Self {
        Self {
            code,
            registers: 0,
            offset,
            immediate,
        }
    }

    /// `r0 = value`
    const fn set(value: i32) -> Self {
        Self::new(0xb7, 0, value)
    }

    /// `exit`, with `r0` as the verdict.
    const EXIT: Self = Self::new(0x95, 0, 0);

    /// `r0 = bpf_get_prandom_u32()`
    const RANDOM: Self = Self::new(0x85, 0, 7);

    /// `if (u32) r0 < limit, skip the next `by` instructions`
    const fn skip_if_below(limit: u32, by: i16) -> Self {
        Self::new(0xa6, by, limit.cast_signed())
    }
}

/// The verdict of an XDP program on every frame.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Verdict {
    /// Leaves it to the kernel (`XDP_PASS`).
    Pass = 2,
    /// Sends it back unchanged (`XDP_TX`).
    #[cfg(test)]
    Bounce = 3,
}

/// Loads an XDP program that gives every frame the same verdict.
pub(super) fn xdp_program(verdict: Verdict) -> io::Result<OwnedFd> {
    const BPF_PROG_TYPE_XDP: u32 = 6;
    load(
        BPF_PROG_TYPE_XDP,
        &[Instruction::set(verdict as i32), Instruction::EXIT],
    )
}

/// Loads a traffic classifier that drops each frame with `probability`, from 0 to 1.
pub(super) fn lossy_classifier(probability: f64) -> io::Result<OwnedFd> {
    const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
    const TC_ACT_UNSPEC: i32 = -1;
    const TC_ACT_SHOT: i32 = 2;

    if !(0.0..=1.0).contains(&probability) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{probability} is not a probability: give one from 0 to 1"),
        ));
    }
    let limit = probability * (f64::from(u32::MAX) + 1.0);
    let program = if limit > f64::from(u32::MAX) {
        vec![Instruction::set(TC_ACT_SHOT), Instruction::EXIT]
    } else {
        vec![
            Instruction::RANDOM,
            Instruction::skip_if_below(limit as u32, 2),
            Instruction::set(TC_ACT_UNSPEC),
            Instruction::EXIT,
            Instruction::set(TC_ACT_SHOT),
            Instruction::EXIT,
        ]
    };
    load(BPF_PROG_TYPE_SCHED_CLS, &program)
}

/// Attaches an XDP program in native mode, until the returned link is closed.
pub(super) fn attach_native_xdp(program: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_XDP: u32 = 37;
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

    #[repr(C)]
    struct LinkCreate {
        program: u32,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }
    bpf(
        BPF_LINK_CREATE,
        &LinkCreate {
            program: program.as_raw_fd().cast_unsigned(),
            interface,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        },
    )
}

fn load(kind: u32, instructions: &[Instruction]) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;

    #[repr(C)]
    struct ProgramLoad {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    // Before Linux 5.11, programs count as locked memory: loading fails there if the limit stays.
    // Later kernels need nothing, and raising it takes CAP_SYS_RESOURCE.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    bpf(
        BPF_PROG_LOAD,
        &ProgramLoad {
            kind,
            count: instructions.len().try_into().expect("a handful"),
            instructions: instructions.as_ptr().addr() as u64,
            license: c"Apache-2.0".as_ptr().addr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: program_name(process::id()),
        },
    )
}

/// The name under which `bpftool prog` shows the programs of a process's labs.
fn program_name(process: u32) -> [u8; 16] {
    let mut name = [0; 16];
    let text = format!("lab_{process}");
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

/// The system call, for the commands that make a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is the beginning of `union bpf_attr` for this command, of the size that
    // is told; the kernel takes what lies beyond as zero. Pointers in it outlive the call.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            core::ptr::from_ref(attributes),
            mem::size_of::<T>(),
        )
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).expect("a descriptor is an int");
    // SAFETY: these commands return a new descriptor, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
