// A small chat on matrix-js-sdk with its stores in IndexedDB: sign in by password or by OAuth, rooms, messages, pictures.

import { ClientEvent, HttpApiEvent, IndexedDBStore, MatrixEventEvent, RoomEvent, createClient } from "matrix-js-sdk";
import { OAuth2 } from "matrix-js-sdk/lib/oauth/index.js";

const SESSION = "session";
const BEGUN = "begun";
const THUMBNAIL = [320, 240];
const redirectUri = `${location.origin}/`;
const { homeserver: baseUrl } = await (await fetch("/config.json")).json();
const body = document.body;
let client;

/** An element with properties and children. */
function el(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
}

function show(...children) {
    body.replaceChildren(...children);
}

const session = {
    get: () => JSON.parse(localStorage.getItem(SESSION)),
    set: (value) => localStorage.setItem(SESSION, JSON.stringify(value)),
};

// Signing in.

function askWho(problem = "") {
    const user = el("input", { ariaLabel: "User" });
    const password = el("input", { ariaLabel: "Password", type: "password" });
    const byPassword = el("form", {}, user, password, el("button", { textContent: "Sign in" }));
    byPassword.onsubmit = (event) => {
        event.preventDefault();
        signIn(user.value, password.value).catch((error) => askWho(error.message));
    };
    const elsewhere = el("button", { textContent: "Sign in on the server's page", onclick: () => leave() });
    show(el("h1", { textContent: "Sign in" }), byPassword, elsewhere, el("p", { role: "alert", textContent: problem }));
}

async function signIn(user, password) {
    const identifier = { type: "m.id.user", user };
    const request = { type: "m.login.password", identifier, password, initial_device_display_name: "Chat" };
    const made = await createClient({ baseUrl }).loginRequest(request);
    session.set({ userId: made.user_id, deviceId: made.device_id, accessToken: made.access_token });
    await start();
}

/** To the server's pages, and back with a code. */
async function leave() {
    const metadata = await createClient({ baseUrl }).getAuthMetadata();
    const about = { client_name: "Chat", client_uri: redirectUri, redirect_uris: [redirectUri], application_type: "web" };
    const clientId = await OAuth2.registerClient(metadata, about);
    const oauth = new OAuth2(metadata, { clientId });
    const state = crypto.randomUUID();
    const url = await oauth.generateAuthorizationCodeGrantUrl(state, redirectUri);
    sessionStorage.setItem(BEGUN, JSON.stringify({ state, context: oauth.context }));
    location.assign(url);
}

async function comeBack(answer) {
    history.replaceState(null, "", "/");
    const { state, context } = JSON.parse(sessionStorage.getItem(BEGUN));
    sessionStorage.removeItem(BEGUN);
    if (answer.get("state") !== state) throw new Error("the answer is not for this browser");
    const anonymous = createClient({ baseUrl });
    const oauth = new OAuth2(await anonymous.getAuthMetadata(), context);
    const tokens = await oauth.completeAuthorizationCodeGrant(answer.get("code"), redirectUri);
    const me = await createClient({ baseUrl, accessToken: tokens.access_token }).whoami();
    session.set({
        userId: me.user_id,
        deviceId: me.device_id,
        accessToken: tokens.access_token,
        refreshToken: tokens.refresh_token,
        oauthClientId: context.clientId,
    });
}

// Being signed in.

async function start() {
    show(el("p", { textContent: "Loading" }));
    const store = new IndexedDBStore({ indexedDB, localStorage, dbName: "chat" });
    const onTokenRefresh = ({ accessToken, refreshToken }) => session.set({ ...session.get(), accessToken, refreshToken });
    client = createClient({ baseUrl, ...session.get(), onTokenRefresh, store, timelineSupport: true });
    client.on(HttpApiEvent.SessionLoggedOut, () => {
        client.removeAllListeners();
        client.stopClient();
        askWho("You are signed out");
    });
    await store.startup();
    await client.initRustCrypto();
    for (const event of [ClientEvent.Sync, ClientEvent.Room, RoomEvent.MyMembership, MatrixEventEvent.Decrypted]) client.on(event, draw);
    for (const event of [RoomEvent.Timeline, RoomEvent.Name, RoomEvent.LocalEchoUpdated]) client.on(event, draw);
    await client.startClient({ initialSyncLimit: 5, lazyLoadMembers: true });
}

/** The page, made anew from what the client knows. Pictures are kept, so that each is asked for once. */
const pictures = new Map();
let writing;

function draw() {
    const room = client.getRooms()[0];
    const me = client.getUserId();
    const head = el("header", {}, el("strong", { textContent: me }), ` ${client.getDeviceId()} ${client.getSyncState()}`);
    head.id = "state";
    if (!room) return show(head, invitation());
    if (room.getMyMembership() === "invite") {
        const accept = el("button", { textContent: "Accept", onclick: () => client.joinRoom(room.roomId) });
        return show(head, el("p", { textContent: `Invitation to ${room.name}` }), accept);
    }
    writing ??= composer();
    const older = el("button", { textContent: "Older", onclick: () => client.scrollback(room, 20).then(draw) });
    const messages = el("ol");
    for (const event of room.getLiveTimeline().getEvents()) {
        if (event.getType() !== "m.room.message" && !event.isEncrypted()) continue;
        messages.append(message(event));
    }
    const focused = document.activeElement;
    show(head, el("h1", { textContent: room.name }), older, messages, writing);
    if (writing.contains(focused)) focused.focus();
}

function message(event) {
    const sender = el("b", { textContent: event.getSender() });
    const state = event.isDecryptionFailure() ? "failed" : event.isSending() ? "sending" : "there";
    const { msgtype, body, url } = event.getContent();
    const content = msgtype === "m.image" ? picture(url, body) : el("span", { textContent: body ?? "…" });
    return el("li", { className: state }, sender, " ", content);
}

function picture(uri, alt) {
    if (!pictures.has(uri)) {
        const image = el("img", { alt });
        pictures.set(uri, image);
        const url = client.mxcUrlToHttp(uri, ...THUMBNAIL, "scale", false, true, true);
        fetch(url, { headers: { Authorization: `Bearer ${client.getAccessToken()}` } })
            .then((answer) => answer.blob())
            .then((blob) => (image.src = URL.createObjectURL(blob)));
    }
    return pictures.get(uri);
}

function invitation() {
    const guest = el("input", { ariaLabel: "Guest" });
    const form = el("form", {}, guest, el("button", { textContent: "Open an encrypted room" }));
    form.onsubmit = (event) => {
        event.preventDefault();
        const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
        client.createRoom({ name: "Kitchen", preset: "private_chat", invite: [guest.value], initial_state: [encryption] });
    };
    return form;
}

function composer() {
    const text = el("input", { ariaLabel: "Message" });
    const file = el("input", { type: "file", ariaLabel: "Picture" });
    const form = el("form", {}, text, el("button", { textContent: "Send" }), file);
    form.onsubmit = (event) => {
        event.preventDefault();
        client.sendTextMessage(client.getRooms()[0].roomId, text.value);
        text.value = "";
    };
    file.onchange = async () => {
        const [chosen] = file.files;
        const { content_uri: url } = await client.uploadContent(chosen, { name: chosen.name, type: chosen.type });
        await client.sendImageMessage(client.getRooms()[0].roomId, url, { mimetype: chosen.type, size: chosen.size }, chosen.name);
    };
    return form;
}

const answer = new URLSearchParams(location.hash.slice(1));
try {
    if (answer.has("code")) await comeBack(answer);
    if (session.get()) await start();
    else askWho(answer.get("error") ?? "");
} catch (error) {
    askWho(error.message);
    throw error;
}
