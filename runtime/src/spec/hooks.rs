//! `hooks`: programs run at fixed points of a container's life, with its state on their stdin.

object! {
    /// The six kinds of hook, in the order they run.
    pub struct Hooks {
        /// Runtime namespace, before `createRuntime`; deprecated but still what GPU tool kits use.
        prestart: Vec<Hook>,
        create_runtime: Vec<Hook>,
        create_container: Vec<Hook>,
        start_container: Vec<Hook>,
        poststart: Vec<Hook>,
        poststop: Vec<Hook>,
    }
}

object! {
    /// One program.
    pub struct Hook {
        /// Absolute.
        path: String,
        /// `argv`, with the program's name first.
        args: Vec<String>,
        /// Without it, the environment of whoever runs the hook; an empty list is an empty environment.
        env: Option<Vec<String>>,
        /// Seconds.
        timeout: Option<i64>,
    }
}
