use super::api::cache::*;
use super::api::*;
use super::client::{Client, ClientError};
use super::*;

/// A daemon that answers from memory; `status` never does.
struct Fake;

#[async_trait]
impl Controlled for Fake {
    async fn status(&self, all_problems: bool) -> Result<Status, String> {
        if all_problems { Err("the catalogue is gone".into()) } else { std::future::pending().await }
    }
    async fn health(&self) -> Health {
        Health { ok: false, problems: vec!["a".into()] }
    }
    async fn scan(&self, order: ScanOrder) -> Result<ScanJob, Refusal> {
        match order.origins.as_slice() {
            [one] if one == "none" => Err(Refusal::Wrong("no origin 'none'".into())),
            _ => Ok(ScanJob { job: 7 + u64::from(order.full), ..ScanJob::default() }),
        }
    }
    async fn check_origins(&self, order: CheckOrder) -> Result<Vec<OriginStatus>, Refusal> {
        if order.origins.is_empty() { Ok(Vec::new()) } else { Err(Refusal::Wrong("no such origin".into())) }
    }
    async fn job(&self, job: u64) -> Option<ScanJob> {
        (job == 7).then(|| ScanJob { job, done: true, ..ScanJob::default() })
    }
    async fn exclude(&self, order: ExcludeOrder) -> Result<Exclusions, Refusal> {
        let excluded = order.paths.into_iter().map(|path| Exclusion { path, ..Exclusion::default() });
        Ok(Exclusions { excluded: excluded.collect(), ..Exclusions::default() })
    }
    async fn cancel_scan(&self, job: u64) -> Option<ScanJob> {
        self.job(job).await
    }
    async fn trash(&self, order: TrashOrder) -> Result<Trash, Refusal> {
        match order.action {
            TrashAction::List => Ok(Trash { waits: order.older_than_ms == Some(5), ..Trash::default() }),
            _ => Err(Refusal::Failed("no".into())),
        }
    }
    async fn explain(&self, path: &[u8]) -> Result<Option<Explanation>, String> {
        Ok((path == b"A\xff &/x").then(|| Explanation { inode: 5, ..Explanation::default() }))
    }
    async fn search(&self, query: String, limit: usize) -> Result<Answer, Refusal> {
        match query.as_str() {
            "bad" => Err(Refusal::Wrong("too long".into())),
            _ => Ok(Answer { query: format!("{query} {limit}"), ..Answer::default() }),
        }
    }
    fn events(&self) -> musicfs_core::EventStream {
        musicfs_core::EventBus::new(Arc::new(musicfs_core::SystemClock::new())).subscribe()
    }
    async fn cache(&self, request: CacheRequest) -> Result<CacheAnswer, Refusal> {
        match request {
            CacheRequest::Report => {
                Ok(CacheAnswer::Report(Box::new(CacheReport { chunks: 3, ..Default::default() })))
            }
            CacheRequest::Order(order) if order.paths.is_empty() => Err(Refusal::Wrong("no path".into())),
            CacheRequest::Order(order) => Ok(CacheAnswer::Job(Box::new(CacheJob {
                job: 4,
                action: order.action,
                ..Default::default()
            }))),
            CacheRequest::Job(job) => {
                Ok(CacheAnswer::Job(Box::new(CacheJob { job, done: true, ..Default::default() })))
            }
        }
    }
    fn stop(&self) -> Stopping {
        Stopping { pid: 1, limit_s: 10 }
    }
}

async fn served() -> (tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let private = dir.path().join("m");
    private_dir(&private).unwrap();
    let socket = private.join("control.sock");
    let listener = bind(&socket).unwrap();
    tokio::spawn(serve(listener, Arc::new(Fake), CancellationToken::new()));
    (dir, Client::new(socket))
}

#[tokio::test]
async fn requests_about_the_cache_are_answered() {
    let (_dir, client) = served().await;
    assert_eq!(client.cache_report().await.unwrap().chunks, 3);
    let mut order = CacheOrder { action: CacheAction::Evict, ..CacheOrder::default() };
    assert!(matches!(client.cache_order(&order).await, Err(ClientError::Wrong(why)) if why == "no path"));
    order.paths.push("a%FF".into());
    let job = client.cache_order(&order).await.unwrap();
    assert_eq!((job.job, job.action), (4, CacheAction::Evict));
    assert!(client.cache_job(4).await.unwrap().done);
}

#[tokio::test]
async fn requests_are_answered_and_refusals_keep_their_reason() {
    let (_dir, client) = served().await;
    assert_eq!(client.health().await.unwrap().problems, ["a"]);
    let order = ScanOrder { full: true, ..ScanOrder::default() };
    assert_eq!(client.scan(&order).await.unwrap().job, 8);
    let order = ScanOrder { origins: vec!["none".into()], full: true, ..ScanOrder::default() };
    assert!(matches!(client.scan(&order).await, Err(ClientError::Wrong(why)) if why == "no origin 'none'"));
    let order = TrashOrder { older_than_ms: Some(5), ..TrashOrder::default() };
    assert!(client.trash(&order).await.unwrap().waits);
    let order = TrashOrder { action: TrashAction::Purge, ..order };
    assert!(matches!(client.trash(&order).await, Err(ClientError::Refused(why)) if why == "no"));
    assert!(client.job(7).await.unwrap().done);
    assert!(matches!(client.job(9).await, Err(ClientError::NotFound(_))));
    assert_eq!(client.explain(b"A\xff &/x").await.unwrap().inode, 5);
    assert!(
        matches!(client.explain(b"B").await, Err(ClientError::NotFound(why)) if why.contains("nothing is at B"))
    );
    assert_eq!(client.search("a & b=ö?", 7).await.unwrap().query, "a & b=ö? 7");
    assert!(matches!(client.search("bad", 7).await, Err(ClientError::Wrong(why)) if why == "too long"));
    assert_eq!(client.stop().await.unwrap().pid, 1);
    assert!(matches!(client.status(true).await, Err(ClientError::Refused(why)) if why.contains("catalogue")));
}

#[tokio::test(start_paused = true)]
async fn answer_that_never_comes_is_a_timeout() {
    let (_dir, client) = served().await;
    let error = client.status(false).await.unwrap_err().to_string();
    assert!(error.contains("no answer within 8 s"), "{error}");
    let quick = client.with_limit(Duration::from_secs(1));
    assert!(matches!(quick.status(false).await, Err(ClientError::TimedOut { .. })));
}

#[tokio::test]
async fn socket_that_nobody_listens_on_is_told_from_none() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    assert!(matches!(Client::new(&socket).health().await, Err(ClientError::Absent { .. })));
    drop(bind(&socket).unwrap());
    let error = Client::new(&socket).health().await.unwrap_err();
    assert!(matches!(error, ClientError::Stale { .. }) && error.is_gone());
    bind(&socket).expect("a stale socket is replaced");
}

#[tokio::test]
async fn socket_and_directory_are_the_owners_alone() {
    let (dir, client) = served().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(client.socket()), 0o600);
    let private = client.socket().parent().unwrap();
    assert_eq!(mode(private), 0o700);
    std::fs::set_permissions(private, std::fs::Permissions::from_mode(0o755)).unwrap();
    private_dir(private).unwrap();
    assert_eq!(mode(private), 0o700);
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(private_dir(&dir.path().join("file")).is_err());
    let long = dir.path().join("x".repeat(108));
    assert!(bind(&long).unwrap_err().to_string().contains("runtime_dir"));
}
