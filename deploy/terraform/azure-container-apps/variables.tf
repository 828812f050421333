variable "name" {
  description = "What the environment and everything beside the jobs is called after."
  type        = string
  default     = "mayfly"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "The name must have 2 to 20 lower-case letters, digits and single hyphens, with a letter first and no hyphen last; the jobs' names begin with it."
  }
}

variable "location" {
  description = "The Azure region, as in `norwayeast`."
  type        = string
}

variable "resource_group_name" {
  description = "An existing resource group, which gets everything but the other ends of peerings and DNS links."
  type        = string
}

variable "tags" {
  description = "Tags of everything that takes tags."
  type        = map(string)
  default     = {}
}

variable "control_plane" {
  description = <<-TEXT
    The control plane these executors serve.
    `url`: its address as the executors reach it.
    `principals`: a name of your choice to the object id of its identity, which may then read, start and stop the jobs made here and nothing else; empty: nobody may start them.
  TEXT
  type = object({
    url        = string
    principals = optional(map(string), {})
  })

  validation {
    condition     = can(regex("^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[^?#]*)?$", var.control_plane.url))
    error_message = "The control plane's url must begin with https://: an executor sends its ticket there."
  }
  validation {
    condition     = alltrue([for id in values(var.control_plane.principals) : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", id))])
    error_message = "Each of the control plane's principals must be the object id of its identity, as in 00000000-0000-0000-0000-000000000000; not its name, and not its resource id."
  }
}

variable "pools" {
  description = <<-TEXT
    Pool, as mayfly.toml names it, to the job that runs its executors.
    `image`: an image with GitHub's runner, whose entry point is `mayfly executor --once`.
    `cpu`: cores of one executor and its job, 0.25 to 4 in quarters; more only with a dedicated workload profile.
    `memory_gib`: of the same; null: twice `cpu`, which is what the Consumption profile gives.
    `longest_seconds`: after so long the platform ends the container, whatever it does; the default is GitHub's own limit of six hours for a job, and a quarter of an hour more.
    `workload_profile`: `Consumption`, or one of `workload_profiles`.
    `variants`: what the executor serves beside jobs without a variant.
    `environment`: variables beside Mayfly's own. Everybody who may read the job can read them, so no secrets.
    `config`: the executor's settings file, in the image.
    `job_identity_ids`: identities that the workflow's own steps may use; every job of the pool can take their tokens.
  TEXT
  type = map(object({
    image            = string
    cpu              = optional(number, 2)
    memory_gib       = optional(number)
    longest_seconds  = optional(number, 22500)
    workload_profile = optional(string, "Consumption")
    variants         = optional(list(string), [])
    environment      = optional(map(string), {})
    config           = optional(string, "/etc/mayfly/executor.toml")
    job_identity_ids = optional(list(string), [])
  }))

  validation {
    condition     = length(var.pools) > 0
    error_message = "There must be one pool at least; without one there is nothing to run."
  }
  validation {
    condition     = alltrue([for pool in keys(var.pools) : can(regex("^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$", pool)) && !strcontains(pool, "--")])
    error_message = "A pool's name is part of its job's name here: 1 to 20 lower-case letters, digits and single hyphens, with no hyphen at an end."
  }
  validation {
    condition     = alltrue([for pool in keys(var.pools) : length("${var.name}-${pool}") <= 32])
    error_message = "The name of a job is `name`, a hyphen and the pool's name, and Azure takes 32 characters at most; shorten one of the two."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.workload_profile != "Consumption" || (pool.cpu >= 0.25 && pool.cpu <= 4 && floor(pool.cpu * 4) == pool.cpu * 4)])
    error_message = "A pool of the Consumption profile has 0.25 to 4 cores, in quarters; for more, name a dedicated profile in workload_profile."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.workload_profile != "Consumption" || pool.memory_gib == null || try(pool.memory_gib == pool.cpu * 2, false)])
    error_message = "The Consumption profile gives two GiB for each core; leave memory_gib out, or name a dedicated profile in workload_profile."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : contains(concat(["Consumption"], keys(var.workload_profiles)), pool.workload_profile)])
    error_message = "A pool names a workload profile that is neither Consumption nor in workload_profiles; add it there."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.longest_seconds >= 300 && pool.longest_seconds <= 86400 && floor(pool.longest_seconds) == pool.longest_seconds])
    error_message = "A pool's longest_seconds must be a whole number from 300 to 86400: Azure documents no maximum, and nothing longer than a day has been tried."
  }
  validation {
    condition     = alltrue(flatten([for pool in values(var.pools) : [for word in keys(pool.environment) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", word)) && !startswith(upper(word), "MAYFLY_")]]))
    error_message = "A pool's environment must have variables' names and none that begins with MAYFLY_: those are set here or by the control plane, and a secret does not belong there."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : !strcontains(pool.image, "://") && can(regex("^[a-z0-9.-]+(:[0-9]+)?/.+[@:].+$", pool.image))])
    error_message = "A pool's image must name its registry and a tag or a digest, as in example.azurecr.io/mayfly-executor:0.1.0, without https://."
  }
}

variable "workload_profiles" {
  description = "Dedicated profiles beside Consumption, which is always there: name to type, as in `D8`, and how many nodes."
  type = map(object({
    type    = string
    minimum = optional(number, 0)
    maximum = optional(number, 3)
  }))
  default = {}

  validation {
    condition     = !contains(keys(var.workload_profiles), "Consumption")
    error_message = "The profile Consumption is always there; leave it out of workload_profiles."
  }
  validation {
    condition     = alltrue([for profile in values(var.workload_profiles) : profile.minimum >= 0 && profile.maximum >= max(1, profile.minimum)])
    error_message = "A workload profile's maximum must be at least 1, and at least its minimum."
  }
}

variable "registry" {
  description = <<-TEXT
    Where the images are; null: they are public.
    `server`: as in `example.azurecr.io`.
    `acr`: `{ id }`, the resource id of the Azure Container Registry, on which the pull identity gets AcrPull; null: somebody else gives it the right.
  TEXT
  type = object({
    server = string
    acr    = optional(object({ id = string }))
  })
  default = null

  validation {
    condition     = try(var.registry.acr, null) == null || can(regex("(?i)/providers/Microsoft.ContainerRegistry/registries/[^/]+$", var.registry.acr.id))
    error_message = "The registry's acr.id must be the resource id of an Azure Container Registry; leave acr out for another one."
  }
}

variable "network" {
  description = <<-TEXT
    Where the executors' network is.
    Nothing: a virtual network of `address_space` is made, with a /26 in it, which serves 230 executors.
    `subnet_prefix`: the range of the subnet that is made; null: the first /26 of `address_space`.
    `vnet`: `{ id }`, an existing one of this subscription, in which a subnet of `subnet_prefix` is made.
    `subnet`: `{ id }`, an existing subnet, delegated to Microsoft.App/environments and used by nothing else; nothing is made.
    `fixed_address`: whether all that leaves goes through a NAT gateway with one public address. Not with `subnet`.
  TEXT
  type = object({
    address_space = optional(string, "10.60.0.0/24")
    subnet_prefix = optional(string)
    vnet          = optional(object({ id = string }))
    subnet        = optional(object({ id = string }))
    fixed_address = optional(bool, false)
  })
  default = {}

  validation {
    condition     = can(cidrhost(var.network.address_space, 0))
    error_message = "The network's address_space must be an IPv4 range, as in 10.60.0.0/24."
  }
  validation {
    condition     = var.network.vnet == null || var.network.subnet == null
    error_message = "Give network.vnet, where a subnet is to be made, or network.subnet, where there is one; not both."
  }
  validation {
    condition     = var.network.vnet == null || var.network.subnet_prefix != null
    error_message = "With network.vnet the subnet that is made needs its range: give subnet_prefix, a free /27 or larger."
  }
  validation {
    condition     = var.network.vnet == null || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+$", var.network.vnet.id))
    error_message = "The network's vnet.id must be the resource id of a virtual network: /subscriptions/…/virtualNetworks/NAME."
  }
  validation {
    condition     = var.network.subnet == null || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+/subnets/[^/]+$", var.network.subnet.id))
    error_message = "The network's subnet.id must be the resource id of a subnet: /subscriptions/…/virtualNetworks/NAME/subnets/NAME."
  }
  validation {
    condition     = var.network.subnet_prefix == null || try(tonumber(split("/", var.network.subnet_prefix)[1]) <= 27 && can(cidrhost(var.network.subnet_prefix, 0)), false)
    error_message = "The subnet must be a /27 or larger: Container Apps takes no smaller one. A /26 serves 230 executors, a /24 1,190."
  }
  validation {
    condition     = var.network.subnet_prefix != null || var.network.vnet != null || var.network.subnet != null || try(tonumber(split("/", var.network.address_space)[1]) <= 26, false)
    error_message = "The network's address_space must hold a /26 for the executors; make it larger, or name a subnet_prefix of /27."
  }
  validation {
    condition     = !(var.network.fixed_address && var.network.subnet != null)
    error_message = "With network.subnet nothing is made in the network, so no fixed_address either: associate a NAT gateway with that subnet yourself."
  }
}

variable "peerings" {
  description = <<-TEXT
    Name to another virtual network that the executors shall reach, in this subscription or another one of the tenant.
    `vnet_id`: its resource id.
    `address_space`: its ranges, only to refuse an overlap here and not at Azure; they are not sent anywhere.
    `allow_forwarded_traffic`: whether traffic that a firewall there forwards is let in.
    `use_remote_gateway`: whether executors go on through the gateway of that network; of one peering at most.
    `return_peering`: whether its own end is made, too, which needs the role Network Contributor there; false: its owner makes it.
  TEXT
  type = map(object({
    vnet_id                 = string
    address_space           = optional(list(string), [])
    allow_forwarded_traffic = optional(bool, false)
    use_remote_gateway      = optional(bool, false)
    return_peering          = optional(bool, true)
  }))
  default = {}

  validation {
    condition     = alltrue([for peering in values(var.peerings) : can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+$", peering.vnet_id))])
    error_message = "A peering's vnet_id must be the resource id of a virtual network: /subscriptions/…/virtualNetworks/NAME."
  }
  validation {
    condition     = length([for peering in values(var.peerings) : peering if peering.use_remote_gateway]) <= 1
    error_message = "A virtual network can use the gateway of one other network; set use_remote_gateway in one peering only."
  }
  validation {
    condition     = alltrue([for range in flatten(values(var.peerings)[*].address_space) : can(cidrhost(range, 0))])
    error_message = "A peering's address_space must be a list of IPv4 ranges, as in [\"10.0.0.0/16\"]."
  }
}

variable "dns_zone_links" {
  description = "Name to the resource id of a private DNS zone that the executors shall resolve, in this subscription or another one of the tenant. A peering alone resolves nothing. Needs the role Private DNS Zone Contributor there."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for zone in values(var.dns_zone_links) : can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/privateDnsZones/[^/]+$", zone))])
    error_message = "A DNS zone link must be the resource id of a private DNS zone: /subscriptions/…/privateDnsZones/NAME."
  }
  validation {
    condition     = length(distinct([for zone in values(var.dns_zone_links) : lower(zone)])) == length(var.dns_zone_links)
    error_message = "A private DNS zone can be linked to a virtual network once; remove the second link."
  }
}

variable "log_analytics" {
  description = <<-TEXT
    Where the executors' output goes.
    `workspace`: `{ id }`, an existing one; null: one is made, which keeps what it gets for `retention_days`.
  TEXT
  type = object({
    workspace      = optional(object({ id = string }))
    retention_days = optional(number, 30)
  })
  default = {}

  validation {
    condition     = var.log_analytics.retention_days >= 30 && var.log_analytics.retention_days <= 730
    error_message = "A Log Analytics workspace keeps logs for 30 to 730 days."
  }
}

variable "service_bus" {
  description = <<-TEXT
    A topic with a subscription for each pool is made in this namespace, for a control plane with `[bus] backend = "servicebus"`; null: none is.
    `namespace_id`: an existing namespace, Standard or Premium.
    `topic`: what the control plane's `[bus] url` names.
  TEXT
  type = object({
    namespace_id = string
    topic        = optional(string, "mayfly")
  })
  default = null
}
