//! `brisk exec`: a further program in a running container.

use super::error::CliError;
use super::global::GlobalOptions;
use brisk_container::execute::{Attachment, execute};
use brisk_container::spec::ExecOptions;
use brisk_container::spec::environment::parse_variable;
use brisk_container::terminal::window_size;
use brisk_container::{ContainerError, Store};

/// Options of `brisk exec`.
#[derive(Clone, Debug, clap::Args)]
pub struct ExecArguments {
    /// Return at once; the program's output is lost
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    pub detach: bool,

    /// Set a variable; KEY alone takes its value from the environment
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,

    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,

    /// User and group, names of the image or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Pass our input to the program
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Give the program all capabilities
    #[arg(long)]
    pub privileged: bool,

    /// Name, id or beginning of an id
    #[arg(value_name = "CONTAINER")]
    pub container: String,

    /// Program and arguments
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
}

/// Starts the program; gives its exit code, 0 when detached.
///
/// # Errors
/// With exit codes as `brisk run` has them, but 1 where the container is not there or does
/// not run.
pub fn run(global: &GlobalOptions, arguments: ExecArguments) -> Result<u8, CliError> {
    let store = Store::open(&global.root)?;
    let container = store.find(&arguments.container)?;
    let mut environment = Vec::new();
    for text in &arguments.env {
        let parsed = parse_variable(text, |key| std::env::var(key).ok());
        let invalid = |reason| ContainerError::option("env", text, reason);
        environment.extend(parsed.map_err(invalid).map_err(CliError::of_program)?);
    }
    let options = ExecOptions {
        command: arguments.command,
        environment,
        user: arguments.user,
        working_directory: arguments.workdir,
        terminal: arguments.tty,
        window: window_size().filter(|_| arguments.tty),
        privileged: arguments.privileged,
    };
    let attachment = if arguments.detach {
        Attachment::Detached
    } else {
        Attachment::Attached {
            interactive: arguments.interactive,
        }
    };
    execute(&store, &container, &options, attachment).map_err(|error| match error {
        error @ ContainerError::WrongState { .. } => error.into(),
        error => CliError::of_program(error),
    })
}
