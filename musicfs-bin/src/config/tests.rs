use std::path::Path;

use super::*;

struct Setup {
    dir: tempfile::TempDir,
    flags: Flags,
}

impl Setup {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Self { dir, flags: Flags { config: Some(path), ..Flags::default() } }
    }

    fn load(&self, vars: &[(&str, &str)]) -> (Config, Vec<Problem>) {
        Config::load(&self.flags, &Env::of(vars))
    }

    /// Problems with the directory of the file cut off.
    fn problems(&self, vars: &[(&str, &str)]) -> Vec<String> {
        let prefix = format!("{}/", self.dir.path().display());
        self.load(vars).1.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }
}

#[test]
fn flag_wins_over_variable_over_file_over_default() {
    let mut setup = Setup::new("local_deadline = \"7s\"\n");
    let deadline = |setup: &Setup, vars: &[(&str, &str)]| {
        let (config, problems) = setup.load(vars);
        assert_eq!(problems, []);
        (config.local_deadline.as_secs(), config.source(keys::LOCAL_DEADLINE).to_string())
    };
    let file = setup.flags.config.clone().unwrap();
    assert_eq!(deadline(&setup, &[]), (7, format!("file {}:1", file.display())));
    let vars = [("MUSICFS_LOCAL_DEADLINE", "8s")];
    assert_eq!(deadline(&setup, &vars), (8, "env MUSICFS_LOCAL_DEADLINE".into()));
    setup.flags.values.insert(keys::LOCAL_DEADLINE, "9s".into());
    assert_eq!(deadline(&setup, &vars), (9, "flag --local-deadline".into()));
    assert_eq!(deadline(&Setup::new(""), &[]), (5, "default".into()));
}

#[test]
fn every_key_can_be_set_by_each_source() {
    let values = [
        (keys::MOUNTPOINT, "\"/m\"", "/m"),
        (keys::CACHE_DIR, "\"/c\"", "/c"),
        (keys::STATE_DIR, "\"/s\"", "/s"),
        (keys::RUNTIME_DIR, "\"/r\"", "/r"),
        (keys::TEMPLATE, "\"$artist/$title\"", "$artist/$title"),
        (keys::ALLOW_OTHER, "true", "true"),
        (keys::PASSTHROUGH, "false", "false"),
        (keys::CACHE_SIZE, "\"5GB\"", "5GB"),
        (keys::CACHE_MIN_FREE, "5", "5"),
        (keys::CACHE_MAX_AGE, "\"9d\"", "9d"),
        (keys::PREFETCH, "false", "false"),
        (keys::RECHECK_AFTER, "\"1h\"", "1h"),
        (keys::LOCAL_DEADLINE, "\"1s\"", "1s"),
        (keys::REMOTE_DEADLINE, "\"1s\"", "1s"),
        (keys::FAILBACK_DELAY, "\"1s\"", "1s"),
        (keys::DRAIN_LIMIT, "\"1s\"", "1s"),
        (keys::LOG_LEVEL, "\"debug\"", "debug"),
        (keys::LOG_FORMAT, "\"json\"", "json"),
        (keys::SCAN_WORKERS, "3", "3"),
        (keys::HEALTH_INTERVAL, "\"1s\"", "1s"),
        (keys::RESCAN_INTERVAL, "\"0\"", "0s"),
        (keys::WATCH, "false", "false"),
        (keys::MISSING_GRACE, "\"1s\"", "1s"),
        (keys::MISSING_MAX_AGE, "\"9d\"", "9d"),
    ];
    let by_default = Setup::new("").load(&[]).0;
    for key in keys::KEYS.iter().filter(|key| key.name != keys::ORIGINS) {
        let (_, toml, text) = values.iter().find(|(name, ..)| *name == key.name).unwrap();
        let mut flagged = Setup::new("");
        flagged.flags.values.insert(key.name, (*text).into());
        let loaded = [
            Setup::new(&format!("{} = {toml}", key.name)).load(&[]),
            Setup::new("").load(&[(&key.variable(), text)]),
            flagged.load(&[]),
        ];
        for (config, problems) in loaded {
            assert_eq!(problems, [], "{}", key.name);
            let changed: Vec<_> = by_default.changed_keys(&config).iter().map(|key| key.name).collect();
            assert_eq!(changed, [key.name]);
        }
    }
}

#[test]
fn all_errors_are_reported_at_once_with_their_places() {
    let setup = Setup::new(
        "tempalte = \"$title\"\n\
         allow_other = \"yes\"\n\
         local_deadline = 5\n\
         template = \"$artist/$titel\"\n\
         log_level = \"loud\"\n\
         [[origins]]\n\
         pth = \"/m\"\n\
         path = \"/m\"\n\
         [[origins]]\n\
         type = \"s3\"\n\
         path = \"/n\"\n",
    );
    let problems = setup.problems(&[("MUSICFS_SCAN_WORKERS", "many"), ("MUSICFS_TEMPLAT", "x")]);
    let has = |what: &str| assert!(problems.iter().any(|p| p.contains(what)), "{what}: {problems:#?}");
    has("config.toml:1:1: unknown key 'tempalte'; did you mean 'template'?");
    has("config.toml:2:15: allow_other: expected true or false, found a TOML string");
    has("config.toml:3:18: local_deadline: expected text in quotes, found a TOML integer");
    has("config.toml:4:12: template: bad template at character 10: unknown field 'titel'");
    has("config.toml:5:13: log_level: unknown log level 'loud'");
    has("config.toml:7:1: origins: local origins have no key 'pth'; did you mean 'path'?");
    has("config.toml:11:1: origins: s3 origins have no key 'path'");
    has("MUSICFS_SCAN_WORKERS: expected a whole number");
    has("MUSICFS_TEMPLAT: no such key; did you mean 'MUSICFS_TEMPLATE'?");
    assert_eq!(problems.len(), 9, "{problems:#?}");
}

#[test]
fn text_that_is_not_toml_is_reported_and_the_rest_still_read() {
    let setup = Setup::new("allow_other = \n drain_limit = \"3s\"\n");
    let (config, problems) = setup.load(&[]);
    assert!(!problems.is_empty());
    assert!(problems[0].to_string().contains("config.toml:1:"), "{}", problems[0]);
    assert_eq!(config.drain_limit, Duration::from_secs(3));
}

#[test]
fn template_error_points_at_the_character() {
    let problems = Setup::new("template = '$artist/$x'\n").problems(&[]);
    let lines: Vec<&str> = problems[0].lines().collect();
    assert_eq!(lines[1].find("$x").unwrap() + 1, lines[2].find('^').unwrap(), "{}", problems[0]);
}

#[test]
fn file_that_is_named_must_exist_and_the_usual_one_need_not() {
    let flags = Flags { config: Some("/nonexistent/c.toml".into()), ..Flags::default() };
    let (_, problems) = Config::load(&flags, &Env::of(&[]));
    assert!(problems[0].is_usage());
    assert!(
        problems[0].to_string().starts_with("--config: cannot read the configuration /nonexistent/c.toml")
    );
    assert_eq!(Config::load(&Flags::default(), &Env::of(&[("HOME", "/nonexistent")])).1, []);
}

#[test]
fn paths_start_from_the_file_or_the_working_directory() {
    let mut setup = Setup::new("cache_dir = \"c\"\n[[origins]]\npath = \"~/Music\"\nid = \"m\"\n");
    setup.flags.values.insert(keys::STATE_DIR, "s".into());
    let mut env = Env::of(&[("HOME", "/home/u"), ("MUSICFS_RUNTIME_DIR", "./r")]);
    env.cwd = "/work".into();
    let (config, problems) = Config::load(&setup.flags, &env);
    assert_eq!(problems, []);
    assert_eq!(config.cache_dir, setup.dir.path().join("c"));
    assert_eq!(config.state_dir, Path::new("/work/s"));
    assert_eq!(config.runtime_dir, Path::new("/work/r"));
    assert_eq!(config.origins[0].path(), Some(Path::new("/home/u/Music")));
}

#[test]
fn directories_follow_xdg_or_are_the_systems() {
    let dirs = |uid, vars: &[(&str, &str)]| {
        let mut env = Env::of(vars);
        env.uid = uid;
        let config = Config::load(&Flags::default(), &env).0;
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        [text(config.cache_dir), text(config.state_dir), text(config.runtime_dir)]
    };
    let home = ("HOME", "/nonexistent/u");
    assert_eq!(
        dirs(1000, &[home, ("XDG_RUNTIME_DIR", "/run/user/1000")]),
        ["/nonexistent/u/.cache/musicfs", "/nonexistent/u/.local/state/musicfs", "/run/user/1000/musicfs"]
    );
    assert_eq!(dirs(0, &[]), ["/var/cache/musicfs", "/var/lib/musicfs", "/run/musicfs"]);
    assert_eq!(dirs(0, &[home, ("XDG_CACHE_HOME", "/x")])[0], "/x/musicfs");
}

#[test]
fn origins_of_the_command_line_stand_in_place_of_the_files() {
    let mut setup = Setup::new(
        "[[origins]]\npath = \"/low\"\npriority = 200\nid = \"low\"\n[[origins]]\npath = \"/high\"\nid = \"high\"\n",
    );
    let places = |config: &Config| config.origins.iter().map(NamedOrigin::place).collect::<Vec<_>>();
    assert_eq!(places(&setup.load(&[]).0), ["/high", "/low"]);
    let variable = [("MUSICFS_ORIGINS", "/a:s3://b/c")];
    assert_eq!(places(&setup.load(&variable).0), ["/a", "s3://b/c"]);
    setup.flags.origins = vec!["/f".into()];
    assert_eq!(places(&setup.load(&variable).0), ["/f"]);
}

#[test]
fn place_of_an_error_in_the_first_origin_is_its_own() {
    let setup = Setup::new("scan_workers = 1\n\n[[origins]]\nid = \"x\"\n");
    assert_eq!(setup.problems(&[]), ["config.toml:3:1: origins: local origins need the key 'path'"]);
}

#[test]
fn origin_named_twice_is_refused() {
    let setup = Setup::new(
        "[[origins]]\npath = \"/a\"\nid = \"x\"\n[[origins]]\npath = \"/b\"\nid = \"x\"\n[[origins]]\npath = \"/a\"\n",
    );
    let problems = setup.problems(&[]);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].contains("config.toml:4:1: origins: the id 'x' is that of /a"));
    assert!(problems[1].contains("/a is named twice"));
}

#[test]
fn shown_configuration_reads_back_as_the_same() {
    let setup = Setup::new(
        "[[origins]]\npath = \"/a\"\nid = \"x\"\n[[origins]]\nurl = \"sftp://me@nas/music\"\npriority = 3\n\
         password_env = \"PW\"\nconcurrency = 4\nbandwidth = \"2MiB\"\nconnect_timeout = 5\n",
    );
    let config = setup.load(&[("MUSICFS_MOUNTPOINT", "/m"), ("MUSICFS_LOG_LEVEL", "debug")]).0;
    let again = Setup::new(&config.to_toml());
    let (read, problems) = again.load(&[]);
    assert_eq!(problems, []);
    assert_eq!(config.changed_keys(&read).len(), 0, "{}", config.to_toml());
}

#[test]
fn mountpoint_and_origins_may_not_contain_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let root = crate::paths::real(dir.path());
    for name in ["music/mnt", "mnt", "cache"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let flags = Flags {
        origins: vec![root.join("music").into()],
        values: BTreeMap::from([
            (keys::CACHE_DIR, root.join("cache").into()),
            (keys::STATE_DIR, root.join("state").into()),
            (keys::RUNTIME_DIR, root.join("run").into()),
        ]),
        ..Flags::default()
    };
    let config = Config::load(&flags, &Env::of(&[])).0;
    let refused = |mountpoint: &Path| {
        let problems = check::mountpoint(&config, mountpoint);
        problems.iter().map(|problem| problem.message.clone()).collect::<String>()
    };
    assert_eq!(refused(&root.join("mnt")), "");
    assert_eq!(refused(&root.join("music2")), "", "a name that only begins like the origin's");
    assert!(refused(&root.join("music/mnt")).contains("inside the origin"));
    assert!(refused(&root.join("music")).contains("inside the origin"));
    assert!(refused(&root).contains("would be hidden"));
    assert!(refused(&root.join("cache/m")).contains("cache_dir"));
    assert_eq!(check::own_directories(&config), []);
    assert_eq!(check::origins(&config), []);
}

#[test]
fn origin_that_cannot_be_listed_or_lies_in_another_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let origins = ["a", "a/b", "none", "file"].map(|name| dir.path().join(name).into());
    let flags = Flags { origins: origins.into(), ..Flags::default() };
    let problems = check::origins(&Config::load(&flags, &Env::of(&[])).0);
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(messages[0].contains("a/b lies inside the origin"));
    assert!(messages[1].contains("none does not exist"));
    assert!(messages[2].contains("file is not a directory"));
}

#[test]
fn example_shows_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/config.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let as_it_is = Setup::new(&text);
    assert_eq!(as_it_is.problems(&[("HOME", "/home/u")]), [""; 0]);
    // What is commented out is what holds without it.
    let uncommented: String = text
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line)))
        .collect();
    let all = Setup::new(&uncommented);
    assert_eq!(all.problems(&[("HOME", "/home/u")]), [""; 0]);
    let vars = [("HOME", "/home/u"), ("XDG_RUNTIME_DIR", "/run/user/1000")];
    let (shown, usual) = (all.load(&vars).0, Setup::new("").load(&vars).0);
    for key in keys::KEYS {
        assert_ne!(shown.source(key.name), &Source::Default, "{} is not in the example", key.name);
    }
    let changed: Vec<_> = usual.changed_keys(&shown).iter().map(|key| key.name).collect();
    assert_eq!(changed, [keys::MOUNTPOINT, keys::ORIGINS]);
}
