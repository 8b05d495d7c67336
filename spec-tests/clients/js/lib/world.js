// Two users, three devices, one encrypted room.

import { Device } from "./device.js";

export const ENCRYPTED = {
    type: "m.room.encryption",
    state_key: "",
    content: { algorithm: "m.megolm.v1.aes-sha2" },
};

/** Creates an encrypted room of `owner`, joined by `guest`, known as encrypted to all `devices`. */
export async function room(owner, guest, devices, options = {}) {
    const { room_id: id } = await owner.client.createRoom({
        preset: "private_chat",
        invite: [guest.userId],
        initial_state: [ENCRYPTED],
        ...options,
    });
    await guest.until("invitation", () => guest.client.getRoom(id)?.getMyMembership() === "invite");
    await guest.client.joinRoom(id);
    for (const device of devices) {
        await device.until("both members and encryption", async () => {
            const room = device.client.getRoom(id);
            const joined = [owner, guest].every((u) => room?.getMember(u.userId)?.membership === "join");
            return joined && (await device.crypto.isEncryptionEnabledInRoom(id));
        });
    }
    return id;
}

/** alice has a phone and a laptop, bob a phone; `options.secure` sets up cross-signing and key backup for alice. */
export async function world(options = {}) {
    const [phone, bob] = await Promise.all([Device.register("alice"), Device.register("bob")]);
    const recoveryKey = options.secure ? await secure(phone) : undefined;
    const laptop = await (await phone.sibling()).start();
    const devices = [phone, laptop, bob];
    const id = await room(phone, bob, devices);
    return { phone, laptop, bob, devices, id, recoveryKey };
}

/** Cross-signing, secret storage and key backup from scratch; returns the recovery key. */
export async function secure(device) {
    const key = await device.crypto.createRecoveryKeyFromPassphrase();
    device.recoveryKey = key.encodedPrivateKey;
    await device.crypto.bootstrapCrossSigning({
        setupNewCrossSigning: true,
        authUploadDeviceSigningKeys: device.byPassword,
    });
    await device.crypto.bootstrapSecretStorage({
        createSecretStorageKey: async () => key,
        setupNewSecretStorage: true,
        setupNewKeyBackup: true,
    });
    return key.encodedPrivateKey;
}

export async function end(...devices) {
    for (const device of devices) await device.stop();
}

/**
 * `count` messages, said in turns by `speakers`; each waits until the one before arrived, since a client shows
 * its own message where it sent it. Appends to `said`.
 */
export async function talk(speakers, id, said, count, what) {
    for (let i = 0; i < count; i++) {
        const body = `${what} ${i}`;
        const eventId = await speakers[i % speakers.length].say(id, body);
        said.push(body);
        await Promise.all(speakers.map((speaker) => speaker.event(id, eventId)));
    }
}
