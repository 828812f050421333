variable "name" {
  description = "What everything here is called after. Names of vaults, databases and Service Bus are unique in the world, so not just `mayfly`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "The name must have 3 to 22 lower-case letters, digits and single hyphens, with a letter first and no hyphen last; a key vault is called so."
  }
}

variable "location" {
  description = "The Azure region, as in `norwayeast`."
  type        = string
}

variable "resource_group_name" {
  description = "An existing resource group."
  type        = string
}

variable "tags" {
  description = "Tags of everything that takes tags."
  type        = map(string)
  default     = {}
}

variable "start" {
  description = "Whether the control plane itself is made. It needs what the operator puts into the vault, so the first apply is with false, and the second with true."
  type        = bool
  default     = false
}

variable "image" {
  description = "An image with Mayfly, as in `example.azurecr.io/mayfly:0.1.0`."
  type        = string

  validation {
    condition     = !strcontains(var.image, "://") && can(regex("^[a-z0-9.-]+(:[0-9]+)?/.+[@:].+$", var.image))
    error_message = "The image must name its registry and a tag or a digest, as in example.azurecr.io/mayfly:0.1.0, without https://."
  }
}

variable "registry" {
  description = "Where the image is, when it is in a private Azure Container Registry: its `server` and its resource id, on which the control plane gets AcrPull."
  type = object({
    server = string
    id     = string
  })
  default = null
}

variable "mayfly_toml" {
  description = "The text of mayfly.toml. It holds no secret: those are in the vault, and files beside it: `/etc/mayfly/webhook-secret` and `/etc/mayfly/store-url`."
  type        = string

  validation {
    condition     = can(regex("(?m)^host\\s*=\\s*\"0\\.0\\.0\\.0\"", var.mayfly_toml)) && try(regex("(?m)^port\\s*=\\s*([0-9]+)", var.mayfly_toml)[0], "8080") == "8080"
    error_message = "mayfly_toml must have host = \"0.0.0.0\" in [server], and the port 8080 or none: the ingress in front, which speaks TLS, asks there."
  }
  validation {
    condition     = !strcontains(var.mayfly_toml, "PRIVATE KEY")
    error_message = "mayfly_toml holds a private key; it belongs into the vault, and this text into nobody's state. Make a new key at GitHub, because this one has been on a disk it should not be on."
  }
  validation {
    condition     = !can(regex("://[^/\"@\\s]*:[^/\"@\\s]+@", var.mayfly_toml))
    error_message = "mayfly_toml holds a url with a password; name the file /etc/mayfly/store-url in url_file instead, and put the url into the vault."
  }
}

variable "replicas" {
  description = "Control planes beside each other. One takes over from another within seconds."
  type        = number
  default     = 2

  validation {
    condition     = var.replicas >= 1 && var.replicas <= 10 && floor(var.replicas) == var.replicas
    error_message = "replicas must be a whole number from 1 to 10."
  }
}

variable "public" {
  description = "Whether the control plane can be reached from the internet, which GitHub's webhooks need; false with `intake = \"pull\"`."
  type        = bool
  default     = true
}

variable "service_bus" {
  description = "Makes a Service Bus namespace with a topic, and a subscription for each of these pools, for `[bus] backend = \"servicebus\"`. Null: none, and the bus is in PostgreSQL."
  type = object({
    pools = set(string)
    topic = optional(string, "mayfly")
  })
  default = null
}

variable "network" {
  description = <<-TEXT
    Nothing: a virtual network of `address_space` is made, with subnets for the control plane, the database and the vault's endpoint.
    `subnet_ids`: existing ones, `apps` delegated to Microsoft.App/environments and `database` to Microsoft.DBforPostgreSQL/flexibleServers; nothing is made.
  TEXT
  type = object({
    address_space = optional(string, "10.61.0.0/24")
    subnet_ids = optional(object({
      apps      = string
      database  = string
      endpoints = string
    }))
  })
  default = {}

  validation {
    condition     = try(tonumber(split("/", var.network.address_space)[1]) <= 26 && can(cidrhost(var.network.address_space, 0)), false)
    error_message = "The network's address_space must be an IPv4 range of /26 or larger, as in 10.61.0.0/24."
  }
}

variable "private_dns_zone_ids" {
  description = "Existing zones privatelink.vaultcore.azure.net (`vault`) and privatelink.postgres.database.azure.com (`postgres`), linked to the network already. Null: they are made here, and linked."
  type = object({
    vault    = string
    postgres = string
  })
  default = null
}

variable "vault_allowed_addresses" {
  description = "Public addresses that may reach the vault, for the time in which the operator puts the key and the secrets there. Empty: only the network may."
  type        = list(string)
  default     = []
}

variable "app_key" {
  description = <<-TEXT
    How the control plane has the App's private key, which the operator puts into the vault either way.
    `sign`: as the key `github-app`, with which it may sign and do nothing else; the key never leaves the vault. `mayfly_toml` names it in `key_vault_key`.
    `file`: as the secret `app-key`, which it finds as /etc/mayfly/app-key; `mayfly_toml` names it in `private_key_file`.
  TEXT
  type        = string
  default     = "sign"

  validation {
    condition     = contains(["file", "sign"], var.app_key)
    error_message = "app_key must be \"sign\", where the vault signs, or \"file\", where the control plane reads the App's key."
  }
  validation {
    condition     = !var.start || strcontains(var.mayfly_toml, var.app_key == "sign" ? "key_vault_key" : "private_key_file")
    error_message = "mayfly_toml does not say where the App's key is: with app_key = \"sign\" it names key_vault_key, with \"file\" private_key_file."
  }
}

variable "sign_role_definition_id" {
  description = "With app_key = \"sign\": an existing role with the one data action Microsoft.KeyVault/vaults/keys/sign/action. Null: it is made here, which needs the right to make roles."
  type        = string
  default     = null
}

variable "database" {
  description = <<-TEXT
    The PostgreSQL server.
    `sku`: the machine; the smallest is enough for tens of jobs a second.
    `zone_redundant`: whether a second one waits in another zone; not with a `B_` sku.
    `password_version`: raise it by one whenever `database_password` is another one.
  TEXT
  type = object({
    sku              = optional(string, "B_Standard_B1ms")
    storage_mb       = optional(number, 32768)
    version          = optional(string, "16")
    backup_days      = optional(number, 14)
    geo_backup       = optional(bool, true)
    zone_redundant   = optional(bool, false)
    password_version = optional(number, 1)
  })
  default = {}

  validation {
    condition     = !(var.database.zone_redundant && startswith(var.database.sku, "B_"))
    error_message = "A burstable server (B_…) has no second one in another zone; choose a GP_ or MO_ sku."
  }
}

variable "database_password" {
  description = "The password of the server's administrator `mayfly`. Terraform passes it on and keeps it nowhere: not in a plan, not in the state."
  type        = string
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = length(var.database_password) >= 24 && can(regex("^[A-Za-z0-9._~-]+$", var.database_password)) && can(regex("[A-Z]", var.database_password)) && can(regex("[a-z]", var.database_password)) && can(regex("[0-9]", var.database_password))
    error_message = "The database_password must have 24 or more letters, digits and . _ ~ -, with a small and a capital letter and a digit: it stands in a url."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept, and the audit of what was signed."
  type        = number
  default     = 90

  validation {
    condition     = var.log_retention_days >= 30 && var.log_retention_days <= 730
    error_message = "A Log Analytics workspace keeps logs for 30 to 730 days."
  }
}

variable "locked" {
  description = "Whether the database and the vault are locked against deletion, which needs the right to make locks."
  type        = bool
  default     = true
}
