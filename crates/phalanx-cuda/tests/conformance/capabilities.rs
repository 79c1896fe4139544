//! The whole suite once more for PTX that the default device does not take, with streams that run late and in a drawn order.

use std::process::Command;

/// What a machine is, is chosen before its first use, so the suite runs in processes of its own.
#[test]
fn the_suite_passes_on_the_ptx_of_every_capability() {
    if std::env::var_os("PHALANX_GPU").is_some() {
        // the real device takes what it takes
        return;
    }
    for (capability, seed) in [("9.0", 1), ("10.0", 2)] {
        let suite = std::env::current_exe().expect("this program");
        let ran = Command::new(suite)
            .args(["--skip", "the_suite_passes"])
            .env("PHALANX_SOFTCUDA_CAPABILITY", capability)
            .env("PHALANX_SOFTCUDA_SCHEDULE", format!("lazy:{seed}"))
            .output()
            .expect("it starts");
        let told = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "capability {capability}:\n{told}");
        assert!(told.contains(" 0 failed") && !told.contains("running 0 tests"), "{told}");
    }
}
