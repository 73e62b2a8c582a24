//! How the linker generates code.

fn main() {
    // Headers are at odd multiples of two in a frame. The kernels of x86-64 and arm64 allow loads
    // of whole words there; without this, every field is composed of single bytes.
    println!("cargo::rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    println!("cargo::rerun-if-changed=build.rs");
}
