//! Floor 5: the binary. The only place where a service meets a store.

mod backup;
mod comment;
mod config;
mod contracts;
mod data;
mod doctor;
mod kits;
mod openapi;
mod run;
mod token;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Mode};
use crate::kits::KitsCommand;
use crate::run::Which;

/// The control plane of a `SaaS` for homelabs.
#[derive(Parser)]
#[command(name = "kombify", version, arg_required_else_help = true)]
struct Cli {
    /// A TOML file with the configuration; `KOMBIFY__SECTION__KEY` in the environment goes over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the whole mesh in this process, on embedded defaults, with its data under ./data.
    Up {
        /// Leaves modules out: they run elsewhere, for example by `run --mode saas-shared --service stack`.
        #[arg(long, value_delimiter = ',', value_name = "MODULES")]
        without: Vec<Which>,
    },
    /// Runs some modules in this process: alone, `--service stack` is a Stack that needs no other module.
    Run {
        /// Which modules.
        #[arg(long, value_delimiter = ',', required = true, value_name = "MODULES")]
        service: Vec<Which>,
        /// How they stand in the world; goes over the configuration.
        #[arg(long)]
        mode: Option<Mode>,
    },
    /// Looks at everything that `up` needs, says what is wrong and what to do, and changes nothing.
    Doctor,
    /// Copies the data to a directory that is not there yet, while whoever uses the data goes on. A start on the copy
    /// named by the configuration is a start on the data of that moment.
    Backup {
        /// The directory; its owner's alone, since keys are in it.
        #[arg(value_name = "DIRECTORY")]
        to: PathBuf,
    },
    /// Prints every method with its access, limits and audit action, as a Markdown table.
    Contracts,
    /// Prints the `OpenAPI` document of what the gateway serves.
    Openapi {
        /// Also what modules serve each other under /api/internal.
        #[arg(long)]
        internal: bool,
    },
    /// What an author of a `StackKit` does with it.
    #[command(subcommand)]
    Kits(KitsCommand),
    /// Prints an access token of a user of the running mesh: signs in, and refreshes what it got earlier.
    Token {
        /// The login: root, alice, bob, carol, or the e-mail address of somebody who signed up.
        user: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = run(cli);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("kombify: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// What stops a command: one line that says what is wrong and what to do.
type Fault = Box<dyn std::error::Error + Send + Sync>;

fn run(cli: Cli) -> Result<(), Fault> {
    // One provider of cryptography in the whole process. It is there already only if this was called twice.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config: Config = kombify_mesh::config::load(cli.config.as_deref(), &config::CUSTOMARY)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.command {
        Command::Up { without } => runtime.block_on(run::up(config, &without)),
        Command::Run { service, mode } => {
            let mode = mode.unwrap_or(config.mode);
            runtime.block_on(run::run(Config { mode, ..config }, &service))
        }
        Command::Doctor => runtime.block_on(doctor::doctor(&config)),
        Command::Backup { to } => {
            let copied = backup::backup(&config.data, &to)?;
            let backup::Copied { databases, files, unreadable } = copied;
            let said = format!("{}: {databases} databases, {files} keys and secrets", to.display());
            writeln!(std::io::stdout(), "{said}")?;
            if unreadable.is_empty() {
                return Ok(());
            }
            Err(format!("these are not in the copy, the rest is: {}", unreadable.join("; ")).into())
        }
        Command::Kits(command) => kits::run(command),
        Command::Contracts => Ok(write!(std::io::stdout(), "{}", contracts::table(&config.rates))?),
        Command::Openapi { internal } => {
            Ok(writeln!(std::io::stdout(), "{:#}", openapi::document(!internal))?)
        }
        Command::Token { user } => {
            let token = runtime.block_on(token::token(&config, &user))?;
            Ok(writeln!(std::io::stdout(), "{token}")?)
        }
    }
}
