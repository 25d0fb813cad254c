-- SPDX-License-Identifier: MIT
--
-- How much of a second CPU do heavy items of even cost get: ensembles of five bodies under their own gravity, each a
-- thousand steps of the leapfrog method? An item is the number that an ensemble starts from, a result its energy.

local lists = require("maps.lists")

local BODIES, STEPS, DT = 5, 1000, 0.001

--- Positions and velocities by a generator that is exact in doubles, as all programs that are compared have it.
local function ensemble(seed)
  local state = seed * 7919 + 1
  local function draw()
    state = state * 48271 % 2147483647
    return state / 2147483647
  end
  local bodies = {}
  for i = 1, BODIES do
    local body = {}
    body.x, body.y, body.z = draw() * 10, draw() * 10, draw() * 10
    body.vx, body.vy, body.vz = draw() - 0.5, draw() - 0.5, draw() - 0.5
    body.mass = draw() + 0.5
    bodies[i] = body
  end
  return bodies
end

local function attract(a, b)
  local dx, dy, dz = a.x - b.x, a.y - b.y, a.z - b.z
  local square = dx * dx + dy * dy + dz * dz + 0.01
  local pull = DT / (square * math.sqrt(square))
  local of_a, of_b = a.mass * pull, b.mass * pull
  a.vx, a.vy, a.vz = a.vx - dx * of_b, a.vy - dy * of_b, a.vz - dz * of_b
  b.vx, b.vy, b.vz = b.vx + dx * of_a, b.vy + dy * of_a, b.vz + dz * of_a
end

local function step(bodies)
  for i = 1, BODIES do
    for j = i + 1, BODIES do
      attract(bodies[i], bodies[j])
    end
  end
  for i = 1, BODIES do
    local body = bodies[i]
    body.x, body.y, body.z = body.x + DT * body.vx, body.y + DT * body.vy, body.z + DT * body.vz
  end
end

local function energy(bodies)
  local sum = 0
  for i = 1, BODIES do
    local a = bodies[i]
    sum = sum + a.mass * (a.vx * a.vx + a.vy * a.vy + a.vz * a.vz) / 2
    for j = i + 1, BODIES do
      local b = bodies[j]
      local dx, dy, dz = a.x - b.x, a.y - b.y, a.z - b.z
      sum = sum - a.mass * b.mass / math.sqrt(dx * dx + dy * dy + dz * dz)
    end
  end
  return sum
end

local function simulate(seed)
  local bodies = ensemble(seed)
  for _ = 1, STEPS do
    step(bodies)
  end
  return energy(bodies)
end

return {
  label = "W2",
  cases = {
    {
      name = "ensembles",
      payload = "%s ensembles of 5 bodies, 1,000 steps",
      size = 50,
      quick = 2,
      figures = lists.milliseconds,
      absent = { c = "as with rows" },
      fn = simulate,
      items = lists.one_to,
      loop = lists.loop_of(simulate),
      map = lists.map_of(simulate),
      check = lists.by_index,
      targets = {
        { vm = "lumap", kind = "thread", peer = "loop", most = 0.526 },
        { vm = "lumap54", kind = "thread", peer = "loop", most = 0.526 },
      },
    },
  },
}
