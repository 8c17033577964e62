//! The command line: what can be typed, and nothing of what it does.
//!
//! Values of configuration keys are taken as they are and read by [`crate::config`], so that all that is wrong is
//! told at once, whichever source it comes from.

pub(crate) mod cache;
mod files;
mod settings;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use cache::CacheCommand;
pub(crate) use files::{ExcludeArgs, TrashArgs, TrashCommand};
pub(crate) use settings::{PlaceArgs, SettingArgs};

use crate::output::ColorChoice;
use crate::search::{LIMIT, MOST};

const AFTER_HELP: &str = "\
Begin with:
  musicfs mount --origin ~/Music ~/mnt     show the music of a folder, arranged by its tags
  musicfs status                           how the mount is doing
  musicfs umount ~/mnt                     end it

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done in part.";

/// Shows the music you own as one read-only tree, arranged by its tags.
#[derive(Debug, Parser)]
#[command(name = "musicfs", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log more: -v for debug, -vv for trace
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount the library
    Mount(MountArgs),
    /// Unmount, and wait until the daemon has ended
    Umount(UmountArgs),
    /// List the mounts of this user
    Mounts(MountsArgs),
    /// Show how a mount is doing
    Status(StatusArgs),
    /// Bring the catalogue up to date with the origins
    Scan(ScanArgs),
    /// List, restore or forget files that are gone from their origins
    #[command(subcommand)]
    Trash(TrashCommand),
    /// Leave files out of the tree, whatever is found, or show them again
    Exclude(ExcludeArgs),
    /// Find tracks by their tags
    Search(SearchArgs),
    /// Tell what happens, as it happens
    Events(EventsArgs),
    /// Show how the origins are doing
    #[command(subcommand)]
    Origin(OriginCommand),
    /// Say why a file has the name and the state that it has
    Explain(ExplainArgs),
    /// Look at the cache of remote music, and work on it
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check that this machine can mount, and that all is in order
    Doctor(DoctorArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct MountArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Return once mounted; the log goes to a file in the state directory
    #[arg(long, short = 'b')]
    pub(crate) background: bool,
    /// Take directories and defaults as a mount of the system's, whoever starts it
    #[arg(long, hide = true)]
    pub(crate) system: bool,
    /// Empty directory to mount on; may stand in the configuration instead
    pub(crate) mountpoint: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UmountArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Longest wait for the daemon to end
    #[arg(long, value_name = "SECONDS", default_value_t = 30, allow_hyphen_values = true)]
    pub(crate) timeout: u64,
    /// Where it is mounted
    pub(crate) mountpoint: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MountsArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// List all files that could not be parsed, not only the first
    #[arg(long)]
    pub(crate) problems: bool,
    /// Where it is mounted; may be left out when there is one mount only
    pub(crate) mountpoint: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Read all files again, also those that seem unchanged
    #[arg(long)]
    pub(crate) full: bool,
    /// Compare what is known of files, and what is cached of them, with what they hold, whatever their sizes and times say
    #[arg(long, conflicts_with = "full")]
    pub(crate) verify: bool,
    /// Accept what an origin lists now, however much of it is gone, and whatever disk it is on
    #[arg(long, requires = "only")]
    pub(crate) confirm: bool,
    /// Scan for this mount
    #[arg(long, value_name = "MOUNTPOINT")]
    pub(crate) mount: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Origins to scan (ids, directories, addresses), or files and directories: in an origin's directory, in the mount,
    /// or as ORIGIN:PATH; everything when nothing is named
    #[arg(value_name = "ORIGIN|PATH")]
    pub(crate) only: Vec<OsString>,
}

const SEARCH_HELP: &str = "\
A query is words, all of which a track must have; the last may be the beginning of one. Case and diacritics do not
matter. Beside words there are:
  \"dark side\"            words one after the other
  artist:floyd           in one field: title, artist, album, albumartist, genre, composer, format (flac, mp3 …),
                         path (where the track is in the mount), origin (its id)
  year:1980..1989        years; either end may be left out
  moonn~1                with one letter wrong; ~2 with two
  a OR b, NOT a, -a, (…) alternatives, exclusions, groups
What is none of these is taken as words.";

#[derive(Clone, Debug, Args)]
#[command(after_help = SEARCH_HELP)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Search the catalogue in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<OsString>,
    /// Search this mount
    #[arg(long, value_name = "MOUNTPOINT", conflicts_with = "cache_dir")]
    pub(crate) mount: Option<PathBuf>,
    /// Most results, up to 1000
    #[arg(long, value_name = "N", default_value_t = LIMIT, allow_hyphen_values = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST)))]
    pub(crate) limit: u16,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// What to look for; several words need no quotes
    #[arg(required = true, allow_hyphen_values = true)]
    pub(crate) query: Vec<OsString>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Print a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Only these: names such as file_added, or families such as file_*; may be given several times
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub(crate) types: Vec<String>,
    /// End after this many events
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Where it is mounted; may be left out when there is one mount only
    pub(crate) mountpoint: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum OriginCommand {
    /// List the origins: how they are, and what they have done
    List(OriginArgs),
    /// Ask origins now whether they are there; works without a mount, too
    Check(OriginArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OriginArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Ask the daemon of this mount
    #[arg(long, value_name = "MOUNTPOINT")]
    pub(crate) mount: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Ids, directories or addresses of the origins; all when none is named
    #[arg(value_name = "ORIGIN")]
    pub(crate) only: Vec<OsString>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Explain in this mount
    #[arg(long, value_name = "MOUNTPOINT")]
    pub(crate) mount: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Path in the mount, or from its root
    pub(crate) path: PathBuf,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration: keys, values, the template, the directories
    Check(ConfigArgs),
    /// Print the configuration in effect, and where each value comes from
    Show(ConfigArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Clear dead mounts and what they left, and rebuild what is damaged
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ManArgs {
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_has_its_flag() {
        let mount = Cli::command();
        let mount = mount.find_subcommand("mount").unwrap();
        for key in keys::KEYS.iter().filter(|key| key.name != keys::MOUNTPOINT) {
            let flag = key.flag();
            let long = flag.strip_prefix("--").unwrap();
            assert!(mount.get_arguments().any(|arg| arg.get_long() == Some(long)), "{flag}");
        }
    }

    #[test]
    fn flags_reach_the_configuration() {
        let cli = Cli::parse_from([
            "musicfs",
            "mount",
            "--origin",
            "/a",
            "--origin",
            "/b",
            "--template",
            "$title",
            "--no-passthrough",
            "/m",
        ]);
        let Command::Mount(args) = cli.command else { panic!("mount") };
        let flags = args.settings.flags();
        assert_eq!(flags.origins, ["/a", "/b"]);
        assert_eq!(flags.values[keys::TEMPLATE], "$title");
        assert_eq!(flags.values[keys::PASSTHROUGH], "false");
        assert!(!flags.values.contains_key(keys::ALLOW_OTHER));
        assert_eq!(args.mountpoint, Some("/m".into()));
    }
}
