output "pgstow_toml" {
  description = "A pgstow.toml. To write it to a file: terraform output -raw pgstow_toml > pgstow.toml"
  value       = module.backups.pgstow_toml
}

output "url" {
  description = "The bucket's URL for pgstow."
  value       = module.backups.url
}

output "service_accounts" {
  description = "The e-mail address of each service account."
  value       = module.backups.service_accounts
}
