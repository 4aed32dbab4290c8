output "pgstow_toml" {
  description = "Write it down by: terraform output -raw pgstow_toml > pgstow.toml"
  value       = module.backups.pgstow_toml
}

output "url" {
  description = "The bucket, as pgstow takes it."
  value       = module.backups.url
}

output "role_arns" {
  description = "Who may do what."
  value       = module.backups.role_arns
}

output "replica_url" {
  description = "The copy, as pgstow takes it."
  value       = module.replica.url
}
