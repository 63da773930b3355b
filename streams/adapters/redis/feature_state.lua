#!lua name=driftloop_VERSION
--[[ Feature state: folds micro-batches of events, and of labels, into one string per entity.

One call folds a whole micro-batch, fenced by offset. The string of an entity, little-endian:

    entries  n x (u24, C x value,    seconds after base (u32 if kept for over 97 days), and values;
                  K x f64)           those that are scanned, as they are; in time order
    ids      m x 8 bytes             event ids of the last m entries, as they were sent
    room     zeros                   for what comes next
    base     u32                     entries' times count from here, in seconds
    last     u32                     newest event time
    m        u32
    saved    u32                     newest event time when the whole string was written
    n        u32
    row      u8, E x (u32, C x f64)  0 for hundredths or 1 for doubles; then for each of the plan's
                                     edges (ages), how many entries are that old and their sums
    rest     E x C x f64             only with doubles: what rounding left of the sums
    widths   C bytes                 bytes of a stored value: 0 to 4, or 8 for doubles

A column is a summed field or, as the last ones, the label and how often it is of some class. An
entity's values are whole hundredths in as few bytes as they need (two decimals are the rule, and
their sums are exact), or doubles, whose sums carry twice a double's precision. Labels that are all
0 take no space.

A window between two edges is a difference of counts and of sums, which the client takes: `row` is,
byte for byte, the answer to an event that came in time order; what is found by scans of the
windows' entries follows it. Entries older than the last edge are not seen by anything.

An event in time order overwrites, in place, what follows the entries: there is room for a few more.
That spares a copy of the whole string here, in the append-only file and on replicas. When the room
is used up, or after a while so that the key's expiry moves on, the string is written anew, without
its old entries.

An event out of order costs a copy of the string. So an entity has a most of events: one that gets
more forgets its oldest ones, an eighth of them at a time, as if they were older than every edge. ]]

local pack, read, spread, size_of, call, compile
local sub, find, gsub, rep, byte, char, concat, floor, min, max, abs, sqrt

local ZEROS = {}        -- strings of zeros by their size

-- A library that is being loaded sees no globals: bound at the first call.
local function bind()
  if pack then return end
  pack, read, spread, size_of = struct.pack, struct.unpack, unpack, struct.size
  sub, find, gsub, rep = string.sub, string.find, string.gsub, string.rep
  byte, char = string.byte, string.char
  concat, floor, min, max, abs = table.concat, math.floor, math.min, math.max, math.abs
  sqrt = math.sqrt
  call, compile = redis.call, loadstring
  for size = 0, 255 do ZEROS[size] = rep('\0', size) end
end

local ROW = 6           -- place of the row in an entity's head, after base, last, m, saved and n
local HEAD = 'I4I4I4I4I4'
local NOTHING = 0 / 0   -- what a scan finds where a window has too few entries
local DUPLICATE = 2     -- first byte of the row that answers a repeated event
local ROOM = 12         -- most entries that there is room for
local MOST, LEFT = MOST_EVENTS, LEFT_EVENTS   -- an entity that has more events keeps its latest
local CHUNK = 31        -- keys per MGET: the server reuses memory of a call with 32 arguments
local LIMIT = { [0] = 0, 0x7f, 0x7fff, 0x7fffff, 0x7fffffff }   -- largest value by width

-- Plans and layouts: parsed once, then found by their bytes.

local plans = {}
local straight, scans_of   -- defined in feature_fast.lua and feature_scans.lua

local function plan_of(bytes)
  local plan = plans[bytes]
  if plan then return plan end
  plan = { ages = {}, layouts = {}, scans = {}, raw = 0 }
  local at
  plan.columns, plan.values, plan.edges, plan.remember, plan.label_age, plan.refresh, at =
    read('<BBBI4I4I4', bytes)
  plan.stride = 1 + plan.columns
  for edge = 1, plan.edges do
    plan.ages[edge], at = read('<I4', bytes, at)
    if plan.remember > 0 and plan.ages[edge] == plan.remember then
      plan.remembered = ROW + 1 + (edge - 1) * plan.stride
    end
  end
  if at <= #bytes then scans_of(plan, bytes, at) end
  plan.kept = plan.ages[plan.edges]
  plan.oldest = ROW + 1 + (plan.edges - 1) * plan.stride
  plan.row_end = ROW + plan.edges * plan.stride
  plan.time = plan.kept < 0x800000 and 'I3' or 'I4'
  plan.reach = plan.kept < 0x800000 and 0xffffff or 0xffffffff
  plan.record = '<I4I4B' .. (plan.remember > 0 and 'c8' or '') .. rep('d', plan.values)
    .. (plan.raw > 0 and 'c' .. plan.raw or '')
  plan.row = 'B' .. rep('I4' .. rep('d', plan.columns), plan.edges)
  plan.record_size = size_of(plan.record)
  plan.blank = rep('\0', size_of('<' .. plan.row)) .. rep(pack('<d', NOTHING), #plan.scans)
  plan.duplicate = char(DUPLICATE) .. sub(plan.blank, 2)
  plan.fresh = rep('\1', plan.values) .. rep('\0', plan.columns - plan.values)
  plan.doubles = rep('\8', plan.columns)
  plans[bytes] = plan
  return plan
end

local function room_of(plan, size, count)   -- for as many more entries as are worth it
  return min(ROOM, 1 + floor(count / 4)) * size + (plan.remembered and 16 or 0)
end

local function layout_of(plan, widths)
  local layout = plan.layouts[widths]
  if layout then return layout end
  layout = { widths = widths, exact = not find(widths, '\8', 1, true), limit = {}, value = {},
             place = {}, stored = 0, time = '<' .. plan.time, row = '<' .. plan.row }
  local entry = layout.time
  for column = 1, plan.columns do
    local width = byte(widths, column)
    layout.limit[column] = LIMIT[width]
    if width > 0 then
      local code = width == 8 and 'd' or 'i' .. width
      layout.stored = column
      layout.value[column] = '<' .. code
      layout.place[column] = size_of(entry)
      entry = entry .. code
    end
  end
  layout.entry, layout.kept, layout.size = entry, size_of(entry), size_of(entry) + plan.raw
  local rests = layout.exact and 0 or plan.edges * plan.columns
  layout.rest = '<' .. rep('d', rests)
  layout.head = '<' .. HEAD .. plan.row .. rep('d', rests)
  layout.head_size = size_of(layout.head)
  layout.ending = layout.head_size + plan.columns
  layout.fields = plan.row_end + rests
  plan.layouts[widths] = layout
  layout.fast = layout.exact and straight(plan, layout)
  return layout
end
