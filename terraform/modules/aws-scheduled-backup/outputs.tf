output "cluster_arn" {
  description = "The ARN of the ECS cluster."
  value       = aws_ecs_cluster.backups.arn
}

output "task_definition_arn" {
  description = "The ARN of the task definition, to run the task by hand with aws ecs run-task."
  value       = aws_ecs_task_definition.backups.arn
}

output "schedule_arn" {
  description = "The schedule's ARN."
  value       = aws_scheduler_schedule.backups.arn
}

output "log_group" {
  description = "The log group of the task's output."
  value       = aws_cloudwatch_log_group.backups.name
}
