//! The program: `trimodal help` explains it; one file per subcommand in `commands/`.

mod commands;

fn main() -> std::process::ExitCode {
    quiet_vulkan();
    commands::main()
}

/// Without a desktop session, a layer of Mesa's that orders adapters by their screen prints `error: XDG_RUNTIME_DIR is
/// invalid` for every program that lists adapters. It has nothing to order there, and can be switched off.
#[cfg(target_os = "linux")]
fn quiet_vulkan() {
    let unset = |name| std::env::var_os(name).is_none();
    if ["XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "DISPLAY", "MESA_VK_DEVICE_SELECT", "DRI_PRIME", "NODEVICE_SELECT"].into_iter().all(unset) {
        // SAFETY: `main` has not started a thread, so nothing else reads the environment meanwhile.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

#[cfg(not(target_os = "linux"))]
fn quiet_vulkan() {}
