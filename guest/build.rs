//! Links the images: own entry, own memory layout, nothing of a C library.

fn main() {
    let target = match (std::env::var("CARGO_FEATURE_MICROVM"), std::env::var("CARGO_FEATURE_SPT")) {
        (Ok(_), Err(_)) => "microvm",
        (Err(_), Ok(_)) => "spt",
        _ => return, // the library alone, for tests on the host
    };
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rerun-if-changed=link/{target}.ld");
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--gc-sections", "-Wl,--build-id=none"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-z,max-page-size=4096,-z,noexecstack");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{folder}/link/{target}.ld");
}
