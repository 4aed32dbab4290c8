output "pgstow_toml" {
  description = "Write it down by: terraform output -raw pgstow_toml > pgstow.toml"
  value       = module.backups.pgstow_toml
}

output "url" {
  description = "The bucket, as pgstow takes it."
  value       = module.backups.url
}

output "service_accounts" {
  description = "Who may do what."
  value       = module.backups.service_accounts
}
