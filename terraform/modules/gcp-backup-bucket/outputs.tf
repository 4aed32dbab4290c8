output "bucket" {
  description = "The bucket's name."
  value       = google_storage_bucket.backups.name
}

output "location" {
  description = "Where the bucket is."
  value       = google_storage_bucket.backups.location
}

output "kms_key" {
  description = "The name of the key that encrypts the backups."
  value       = local.kms_key
}

output "url" {
  description = "What pgstow takes for --to and --from, or as PGSTOW_STORE."
  value       = module.roles.url
}

output "service_accounts" {
  description = "The e-mail address of each service account that was made: writer, restorer, auditor, pruner."
  value       = module.roles.service_accounts
}

output "pgstow_toml" {
  description = "A pgstow.toml for this bucket, for pgstow run."
  value       = module.roles.pgstow_toml
}
