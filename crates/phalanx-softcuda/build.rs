//! Lets the library search the directory of links beside it, so that it can take the names it stands in for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // the old tag, since it is searched before LD_LIBRARY_PATH
    println!("cargo::rustc-cdylib-link-arg=-Wl,--disable-new-dtags,-rpath,$ORIGIN/softcuda");
}
