output "pgstow_toml" {
  description = "A pgstow.toml. To write it to a file: terraform output -raw pgstow_toml > pgstow.toml"
  value       = module.backups.pgstow_toml
}

output "url" {
  description = "The bucket's URL for pgstow."
  value       = module.backups.url
}

output "role_arns" {
  description = "The ARN of each role."
  value       = module.backups.role_arns
}

output "replica_url" {
  description = "The copy's URL for pgstow."
  value       = module.replica.url
}
