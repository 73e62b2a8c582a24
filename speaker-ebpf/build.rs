//! How the linker generates code.

fn main() {
    // Headers lie at odd multiples of two in a frame. The kernels of x86-64 and arm64 let programs
    // load whole words from there; without this, every field is put together from single bytes.
    println!("cargo::rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    println!("cargo::rerun-if-changed=build.rs");
}
