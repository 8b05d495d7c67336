//! Object stores as child processes, which `clients/setup` installs: one that speaks S3, and one that speaks as Azure's
//! does. No package has one that Google's XML requests can be sent to; they are those of S3 with other credentials, so
//! the first one answers them too.

use std::{fs, net::TcpListener, path::PathBuf, process::Stdio, time::Duration};

use reqwest::Client as Http;
use tempfile::TempDir;
use tokio::{process::Child, time::sleep};

use crate::{
    Outcome,
    clients::{home, installed},
};

/// How often the object store is looked at before the test gives up.
const POLLS: u32 = 1_200;
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
const BUCKET: &str = "files";
/// The account of every emulator, and its key: <https://learn.microsoft.com/azure/storage/common/storage-use-azurite>.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// What the tests themselves may do there, signed with that key, until 2099.
const SIGNED: &str = "sv=2018-11-09&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&spr=https%2Chttp\
                      &sig=K%2BOQqJj6KnEczTtcVU385IwXLAzlxsauImxanI94hY0%3D";

/// What a store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// The requests of Amazon.
    S3,
    /// The XML requests of Google.
    Gcs,
    /// The requests of Microsoft.
    Azure,
}

/// A running object store with one empty bucket.
#[derive(Debug)]
pub struct ObjectStore {
    speech: Speech,
    url: String,
    http: Http,
    folder: TempDir,
    _child: Child,
}

impl ObjectStore {
    /// Starts one.
    pub async fn start(speech: Speech) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (program, arguments): (PathBuf, Vec<String>) = match speech {
            Speech::S3 | Speech::Gcs => {
                let arguments = ["-H", "127.0.0.1", "-p", &port.to_string()].map(String::from);
                (home().join("s3/bin/moto_server"), arguments.into())
            }
            Speech::Azure => {
                let port = port.to_string();
                let arguments =
                    ["--blobPort", &port, "--inMemoryPersistence", "--silent", "--disableTelemetry"];
                (home().join("azurite/node_modules/.bin/azurite-blob"), arguments.map(String::from).into())
            }
        };
        let child = installed(&program)?
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        let store = Self { speech, url, http: Http::builder().no_proxy().build()?, folder, _child: child };
        for _ in 0..POLLS {
            if store.make_bucket().await.is_ok() {
                return Ok(store);
            }
            sleep(POLL).await;
        }
        Err("the object store did not start".into())
    }

    async fn make_bucket(&self) -> Outcome<()> {
        let request = match self.speech {
            Speech::S3 | Speech::Gcs => self.http.put(format!("{}/{BUCKET}", self.url)),
            Speech::Azure => self.http.put(self.container("")),
        };
        request.send().await?.error_for_status()?;
        Ok(())
    }

    fn container(&self, query: &str) -> String {
        format!("{}/{ACCOUNT}/{BUCKET}?restype=container{query}&{SIGNED}", self.url)
    }

    /// How many objects it holds.
    pub async fn objects(&self) -> Outcome<usize> {
        let (url, tag) = match self.speech {
            Speech::S3 | Speech::Gcs => (format!("{}/{BUCKET}?list-type=2", self.url), "<Key>"),
            Speech::Azure => (self.container("&comp=list"), "<Blob>"),
        };
        let listed = self.http.get(url).send().await?.error_for_status()?.text().await?;
        Ok(listed.matches(tag).count())
    }

    /// Has it lose everything.
    pub async fn forget(&self) -> Outcome<()> {
        let request = match self.speech {
            Speech::S3 | Speech::Gcs => self.http.post(format!("{}/moto-api/reset", self.url)),
            Speech::Azure => self.http.delete(self.container("")),
        };
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// The part `media` of a configuration that names it.
    #[must_use]
    pub fn configuration(&self) -> String {
        let (scheme, options) = match self.speech {
            Speech::S3 => (
                "s3",
                format!("aws_endpoint = '{}'\naws_region = 'us-east-1'\naws_allow_http = 'true'", self.url),
            ),
            Speech::Gcs => ("gs", String::new()),
            Speech::Azure => (
                "az",
                format!(
                    "azure_storage_account_name = '{ACCOUNT}'\nazure_storage_account_key = '{ACCOUNT_KEY}'\n\
                     azure_storage_endpoint = '{}/{ACCOUNT}'\nazure_allow_http = 'true'",
                    self.url
                ),
            ),
        };
        format!("[media]\nurl = '{scheme}://{BUCKET}/lockstep'\n[media.options]\n{options}\n")
    }

    /// What is left to the environment: the credentials, or a file with them.
    pub fn environment(&self) -> Outcome<Vec<(&'static str, String)>> {
        Ok(match self.speech {
            Speech::S3 => vec![
                ("AWS_ACCESS_KEY_ID", String::from("test")),
                ("AWS_SECRET_ACCESS_KEY", String::from("test")),
            ],
            Speech::Gcs => {
                let file = self.folder.path().join("account.json");
                let account = serde_json::json!({
                    "gcs_base_url": self.url,
                    "disable_oauth": true,
                    "client_email": "",
                    "private_key": "",
                    "private_key_id": "",
                });
                fs::write(&file, account.to_string())?;
                vec![
                    ("GOOGLE_SERVICE_ACCOUNT", file.display().to_string()),
                    // Nobody here gives one out in exchange for what is in the file.
                    ("GOOGLE_BEARER_TOKEN", String::from("test")),
                ]
            }
            Speech::Azure => Vec::new(),
        })
    }
}
