//! The numbers of files, thumbnails and previews of pages.

use std::time::Duration;

/// Bytes of a file that are read or written at once (ours; a file takes no more memory than a few of these).
pub const MEDIA_BUFFER_BYTES: usize = 128 << 10;
/// First bytes of a file by which it is guessed what it is, and whether it may be quarantined (ours).
pub const MEDIA_HEAD_BYTES: usize = 512;
/// Time between two pieces of a file that is on its way in (ours).
pub const MEDIA_PIECE_SECONDS_MAX: Duration = Duration::from_secs(30);
/// Time for a file to arrive (ours; 50 MiB at 0.5 Mbit/s take as long).
pub const MEDIA_UPLOAD_SECONDS_MAX: Duration = Duration::from_secs(900);
/// Files whose bytes cannot be removed before the others wait for the next time (ours; a storage that is away is not asked for
/// all of them).
pub const MEDIA_REMOVALS_FAILED_MAX: usize = 20;
/// Uploads of one user at the same time (ours).
pub const MEDIA_UPLOADS_OF_USER_MAX: usize = 16;
/// Files that are on their way in at the same time (ours; each takes 300 KiB of memory).
pub const MEDIA_UPLOADS_MAX: usize = 256;
/// Files of one user that are on their way in at the same time (ours; a quarter of all).
pub const MEDIA_UPLOADS_EACH: usize = 64;
/// Attempts at a commit about a file whose rows others change meanwhile (ours).
pub const MEDIA_ATTEMPTS_MAX: usize = 32;
/// Characters of the media ids that we make (ours; nobody guesses them).
pub const MEDIA_ID_CHARACTERS: usize = 32;
/// Longest media id, in bytes (ours; others make up to 65 characters).
pub const MEDIA_ID_BYTES_MAX: usize = 255;
/// Longest name of a file, in bytes (ours; file systems take 255).
pub const MEDIA_NAME_BYTES_MAX: usize = 1_024;
/// Longest type of a file, in bytes (ours).
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;
/// Addresses without a file that one user may have (ours; a client uploads a few files at once).
pub const MEDIA_RESERVED_MAX: usize = 100;
/// How long a file may be uploaded to such an address, in milliseconds (client-server API, "create" recommends a day).
pub const MEDIA_RESERVED_MS: u64 = 24 * 3_600 * 1_000;
/// How long a client may wait for a file that is not uploaded yet (ours).
pub const MEDIA_WAIT_MAX: Duration = Duration::from_secs(60);
/// How often such a file is looked for, in case another process has taken it in (ours).
pub const MEDIA_LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long what is known of when a file was looked at may be behind, in milliseconds (ours).
pub const MEDIA_SEEN_KEEP_MS: u64 = 3_600 * 1_000;
/// Thumbnails that are made at the same time (ours; each takes a core and up to 200 MiB).
pub const MEDIA_THUMBNAILS_AT_ONCE: usize = 2;
/// How long a request waits until its thumbnail is begun (ours).
pub const MEDIA_THUMBNAIL_WAIT_MAX: Duration = Duration::from_secs(40);
/// How long it is remembered that a thumbnail cannot be made (ours).
pub const MEDIA_UNFIT_KEEP: Duration = Duration::from_secs(3_600);
/// Thumbnails of which that is remembered (ours; about 200 bytes each).
pub const MEDIA_UNFIT_MAX: usize = 10_000;
/// Thumbnails of one image that are kept (ours).
pub const MEDIA_THUMBNAILS_OF_IMAGE_MAX: usize = 24;
/// Longest side of a thumbnail, in pixels (ours).
pub const MEDIA_THUMBNAIL_SIDE_MAX: u32 = 2_048;
/// Largest file of which thumbnails are made, in bytes (ours; JPEGs are in memory while they are read).
pub const MEDIA_THUMBNAIL_SOURCE_BYTES_MAX: u64 = 50 << 20;
/// Pixels of an image of which thumbnails are made (ours; Synapse takes as many).
pub const MEDIA_IMAGE_PIXELS_MAX: u64 = 32 << 20;
/// Memory for reading one image, in bytes (ours; `MEDIA_IMAGE_PIXELS_MAX` of four bytes, and a little).
pub const MEDIA_IMAGE_MEMORY_MAX: u64 = 160 << 20;
/// Frames of an animated thumbnail (ours; what has more is shown still).
pub const MEDIA_ANIMATION_FRAMES_MAX: usize = 300;
/// Pixels of all frames of an animated thumbnail together (ours; 64 MiB).
pub const MEDIA_ANIMATION_PIXELS_MAX: u64 = 16 << 20;
/// Time for making an animated thumbnail (ours; what takes longer is shown still).
pub const MEDIA_ANIMATION_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Bytes of another server's refusal that are read (ours).
pub const REFUSAL_BYTES_MAX: usize = 16 << 10;
/// Head of a part of another server's answer that is read, in bytes (ours; it takes about 200).
pub const MEDIA_PART_BYTES_MAX: usize = 64 << 10;
/// How long another server may take until the head of its answer is here (ours; it may have to make a thumbnail).
pub const MEDIA_FETCH_HEAD_MAX: Duration = Duration::from_secs(30);
/// Time for fetching a file of another server (ours; 100 MiB at 4 Mbit/s take as long).
pub const MEDIA_FETCH_SECONDS_MAX: Duration = Duration::from_secs(240);
/// Files of other servers that are fetched at the same time (ours; each takes 300 KiB of memory).
pub const MEDIA_FETCHES_MAX: usize = 64;
/// Files of one other server that are fetched at the same time (ours).
pub const MEDIA_FETCHES_EACH_MAX: usize = 8;
/// How long a file waits until its fetch is begun (ours; a server that sends slowly has its eight places taken for minutes).
pub const MEDIA_FETCH_WAIT_MAX: Duration = Duration::from_secs(20);
/// Redirects that are followed to a file (ours).
pub const MEDIA_REDIRECTS_MAX: usize = 3;
/// How long it is remembered that another server has no such file (ours).
pub const MEDIA_ABSENT_KEEP: Duration = Duration::from_secs(60);
/// Files of which that is remembered (ours; about 150 bytes each).
pub const MEDIA_ABSENT_MAX: usize = 10_000;
/// How often files are looked through for what its time is over for (ours).
pub const MEDIA_TEND_EVERY: Duration = Duration::from_secs(600);
/// Files that are copied from one place to another at the same time (ours; an answer of an object store takes 50 ms).
pub const MEDIA_COPIES_AT_ONCE: usize = 8;
/// Longest address of a page that is looked at, in bytes (ours).
pub const PREVIEW_URL_BYTES_MAX: usize = 2_048;
/// Bytes of a page that are looked at (ours; what it says about itself stands at the beginning).
pub const PREVIEW_PAGE_BYTES_MAX: usize = 1 << 20;
/// Largest picture of a page, in bytes (ours).
pub const PREVIEW_IMAGE_BYTES_MAX: u64 = 8 << 20;
/// Largest description of a page in JSON (oEmbed), in bytes (ours; ordinary ones have 2,000).
pub const PREVIEW_EMBED_BYTES_MAX: usize = 128 << 10;
/// Time for it (ours; the page is shown without it).
pub const PREVIEW_EMBED_SECONDS_MAX: Duration = Duration::from_secs(5);
/// Redirects that are followed to a page (ours).
pub const PREVIEW_REDIRECTS_MAX: usize = 5;
/// Time until the head of a page is here (ours).
pub const PREVIEW_HEAD_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Time for a page with its picture (ours; a user waits).
pub const PREVIEW_SECONDS_MAX: Duration = Duration::from_secs(20);
/// How long a page waits until it is looked at (ours; a user waits).
pub const PREVIEW_WAIT_MAX: Duration = Duration::from_secs(10);
/// Pages that are looked at at the same time (ours; each takes up to 3 MiB).
pub const PREVIEWS_AT_ONCE: usize = 16;
/// How long a preview is kept, in milliseconds (ours).
pub const PREVIEW_KEPT_MS: u64 = 24 * 3_600 * 1_000;
/// How long it is remembered that a page could not be had, in milliseconds (ours).
pub const PREVIEW_FAILED_MS: u64 = 5 * 60 * 1_000;
/// Fields of a preview (ours; pages have about ten).
pub const PREVIEW_FIELDS_MAX: usize = 50;
/// Longest field of a preview, in characters (ours).
pub const PREVIEW_FIELD_CHARACTERS_MAX: usize = 1_000;
/// Largest preview that is kept and answered, in bytes (ours; pages have about 1,000). What is beyond it is left out.
pub const PREVIEW_BYTES_MAX: usize = 8 << 10;
/// Bytes of all previews that are kept, without their pictures (ours; some 60,000).
pub const PREVIEWS_BYTES_MAX: u64 = 64 << 20;
/// Part of the room for what can be had again that they fill at most, where that is small: one in so many (ours).
pub const PREVIEWS_PART: u64 = 8;
/// Tokens of a page that are looked at (ours; 1 MiB of ordinary HTML has about 50,000).
pub const PREVIEW_TOKENS_MAX: usize = 200_000;
