//! Devices, E2EE keys, one-time keys, cross-signing, backups, to-device send.
