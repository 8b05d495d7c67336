// Two devices of one user verify each other by emoji; the new one is signed and receives the secrets.

import { check } from "../lib/check.js";
import { Device } from "../lib/device.js";
import { compareEmoji, incomingRequest } from "../lib/verify.js";
import { end, secure } from "../lib/world.js";

export default async function () {
    const phone = await Device.register("alice");
    await secure(phone);
    const laptop = await (await phone.sibling()).start();
    await laptop.until("own cross-signing keys", () => laptop.crypto.userHasCrossSigningKeys(laptop.userId, true));

    const asked = await laptop.crypto.requestOwnUserVerification();
    const heard = await incomingRequest(phone, () => true);
    await compareEmoji([laptop, asked], [phone, heard]);

    await phone.until("trust in the laptop", async () => {
        const status = await phone.crypto.getDeviceVerificationStatus(laptop.userId, laptop.deviceId);
        return status?.crossSigningVerified && status.signedByOwner;
    });
    await laptop.until("trust in the phone", async () => {
        const status = await laptop.crypto.getDeviceVerificationStatus(phone.userId, phone.deviceId);
        return status?.crossSigningVerified;
    });
    await laptop.until("the private keys from the phone", async () => {
        const { privateKeysCachedLocally: keys } = await laptop.crypto.getCrossSigningStatus();
        return keys.masterKey && keys.selfSigningKey && keys.userSigningKey;
    });
    await laptop.until("the key of the backup", () => laptop.crypto.getSessionBackupPrivateKey());
    check(await laptop.crypto.isCrossSigningReady(), "the laptop cannot sign");
    await end(phone, laptop);
}
