//! Files of one server for the users of the other one.

use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::Method;
use spec_tests::{Outcome, world::World};

/// A grey picture of 300 by 300 pixels.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAASwAAAEsCAAAAABcFtGpAAABo0lEQVR42u3QQREAAAwCIKMb3Qp77yACKWdRIEuWLFmyZCmQJUuWLFmyFMiSJUuWLFkKZMmSJUuWLAWyZMmSJUuWAlmyZMmSJUuBLFmyZMmSpUCWLFmyZMlSIEuWLFmyZCmQJUuWLFmyFMiSJUuWLFkKZMmSJUuWLAWyZMmSJUuWAlmyZMmSJUuBLFmyZMmSpUCWLFmyZMlSIEuWLFmyZCmQJUuWLFmyFMiSJUuWLFkKZMmSJUuWLAWyZMmSJUuWAlmyZMmSJUuBLFmyZMmSpUCWLFmyZMlSIEuWLFmyZCmQJUuWLFmyFMiSJUuWLFkKZMmSJUuWLAWyZMmSJUuWAlmyZMmSJUuBLFmyZMmSpUCWLFmyZMlSIEuWLFmyZCmQJUuWLFmyFMiSJUuWLFkKZMmSJUuWLAWyZMmSJUuWAlmyZMmSJUuBLFmyZMmSpUCWLFmyZMlSIEuWLFmyZCmQJUuWLFmyFMiSJUuWLFkKZMmSJUuWLAWyZMmSJUuWAlmyZMmSJUuBLFmyZMmSpUCWLFmyZMlSIEuWLFmyZCmQJUuWrJ8GwefSQmRR+mcAAAAASUVORK5CYII=";

/// Each side downloads what the other one has, and a thumbnail of it.
pub(crate) async fn media(world: &mut World) -> Outcome<()> {
    let (alice, bob) = world.people("media").await?;
    // More stands after its end than fits into one packet.
    let picture = [BASE64_STANDARD.decode(PICTURE)?, vec![7; 300_000]].concat();
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        let path = "/_matrix/media/v3/upload?filename=gr%C3%BCn.png";
        let sent = one.client.upload(path, "image/png", picture.clone()).await?;
        let uri = sent["content_uri"].as_str().ok_or("no content_uri")?;
        let address = uri.strip_prefix("mxc://").ok_or("no mxc address")?;
        let thumbnail = format!("thumbnail/{address}?width=32&height=32&method=crop");
        for what in [thumbnail, format!("download/{address}")] {
            let path = format!("/_matrix/client/v1/media/{what}");
            let answer = other.client.ask(Method::GET, &path, None).await?;
            if answer.status != 200 {
                let told = answer.json();
                return Err(format!("{} asked for {what}: {} {told}", other.id(), answer.status).into());
            }
            if what.starts_with("download") && answer.bytes != picture {
                return Err(format!("{} got {} other bytes", other.id(), answer.bytes.len()).into());
            }
        }
        let server = address.split('/').next().unwrap_or_default();
        let missing = format!("/_matrix/client/v1/media/download/{server}/doesnotexist");
        let answer = other.client.ask(Method::GET, &missing, None).await?;
        if (answer.status, answer.errcode().as_str()) != (404, "M_NOT_FOUND") {
            return Err(format!("a missing file: {} {}", answer.status, answer.json()).into());
        }
    }
    Ok(())
}
