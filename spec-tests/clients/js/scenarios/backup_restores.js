// A new device with nothing but the recovery key signs itself and reads the whole history from the key backup.

import { check, same } from "../lib/check.js";
import { end, talk, world } from "../lib/world.js";

export default async function () {
    const { phone, bob, devices, id, recoveryKey } = await world({ secure: true });
    const said = [];
    for (const part of ["kept", "kept later", "kept last"]) {
        await phone.crypto.forceDiscardSession(id);
        await talk([phone, bob], id, said, 4, part);
    }
    await phone.reads(id, said);
    const sessions = new Set(phone.events(id).map((e) => e.getWireContent().session_id).filter(Boolean));
    await phone.until("upload of every session", async () => {
        const { body } = await phone.raw("GET", "/_matrix/client/v3/room_keys/version");
        return body.count >= sessions.size;
    });

    const tablet = await phone.sibling();
    tablet.recoveryKey = recoveryKey;
    await tablet.start();
    await tablet.until("the room", () => tablet.client.getRoom(id)?.getMyMembership() === "join");
    await tablet.until("own public keys", () => tablet.crypto.userHasCrossSigningKeys(tablet.userId, true));
    await tablet.crypto.bootstrapCrossSigning({});
    await tablet.crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    check((await tablet.crypto.checkKeyBackupAndEnable())?.trustInfo.trusted, "the new device does not trust the backup");
    const restored = await tablet.crypto.restoreKeyBackup();
    same([restored.imported, restored.total], [sessions.size, sessions.size], "sessions restored");
    await tablet.wholeHistory(id);
    await tablet.reads(id, said);

    for (const other of [phone, bob]) {
        await other.until("a signature of the new device", async () => {
            const status = await other.crypto.getDeviceVerificationStatus(tablet.userId, tablet.deviceId);
            return status?.signedByOwner;
        });
    }
    said.push("hello, tablet");
    await bob.say(id, said.at(-1));
    for (const device of [phone, tablet]) {
        await device.until("message", () => device.bodies(id).includes(said.at(-1)));
    }
    await end(...devices, tablet);
}
