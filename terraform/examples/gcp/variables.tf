variable "project" {
  description = "ID of the project for the backups. The best choice is a project with nothing else in it."
  type        = string
}

variable "bucket_name" {
  description = "The bucket's name. No other bucket in the world may have it."
  type        = string
}

variable "writers" {
  description = "Workloads that back up, such as serviceAccount:PROJECT.svc.id.goog[NAMESPACE/NAME] for a service account of GKE."
  type        = list(string)
  default     = []
}

variable "operators" {
  description = "Who restores, such as group:dba@example.com."
  type        = list(string)
}

variable "auditors" {
  description = "Who watches the backups and may not read their data, such as group:audit@example.com."
  type        = list(string)
}
