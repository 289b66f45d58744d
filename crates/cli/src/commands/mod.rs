//! The table of commands: a command is one file and one line here.
use crate::{Context, error::Result};

macro_rules! commands {
    ($($name:ident in $module:ident),* $(,)?) => {
        $(mod $module;)*

        /// A verb with its arguments.
        #[derive(clap::Subcommand)]
        #[allow(clippy::large_enum_variant)] // one value per process
        pub enum Command {
            $(
                #[allow(missing_docs)]
                $name($module::Args),
            )*
        }

        impl Command {
            /// Does what the verb says.
            pub fn run(self, context: &Context) -> Result<()> {
                match self {
                    $(Command::$name(args) => $module::run(&args, context),)*
                }
            }
        }
    };
}

commands! {
    Run in run,
    Serve in serve,
    Inspect in inspect,
    Audit in audit,
    License in license,
    Diff in diff,
    Bom in bom,
    Sign in sign,
    Models in models,
    Pull in pull,
    List in list,
    Show in show,
    Rm in rm,
    Du in du,
    Gc in gc,
    Verify in verify,
    Bench in bench,
    Trace in trace,
    Embed in embed,
    Perplexity in perplexity,
    Tokenize in tokenize,
    Detokenize in detokenize,
    Template in template,
    Convert in convert,
    Completions in completions,
    Man in man,
}

pub use bench::{Spread, bound, spread};
pub use run::summary;
