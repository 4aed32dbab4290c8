output "bucket" {
  description = "The bucket's name."
  value       = google_storage_bucket.backups.name
}

output "location" {
  description = "The bucket's location."
  value       = google_storage_bucket.backups.location
}

output "kms_key" {
  description = "The name of the key that encrypts the backups."
  value       = local.kms_key
}

output "signing_keys" {
  description = "The key that signs for each account, for --sign-with and for key in [signing] of pgstow.toml."
  value       = { for role, key in google_kms_crypto_key.signing : role => "gcpkms:${key.id}/cryptoKeyVersions/1" }
}

output "url" {
  description = "The store's URL, for --to, --from and PGSTOW_STORE."
  value       = module.roles.url
}

output "service_accounts" {
  description = "The e-mail address of each service account, by its name: writer, restorer, auditor, pruner."
  value       = module.roles.service_accounts
}

output "pgstow_toml" {
  description = "A pgstow.toml with this bucket, for pgstow run."
  value       = module.roles.pgstow_toml
}
