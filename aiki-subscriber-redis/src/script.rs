//! What has to happen in Redis in one step. Each script touches the keys of one hash slot only.

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::LuaInterface;
use fred::types::Value;
use tokio::sync::OnceCell;

use crate::classify::{Trouble, classify};

/// Takes new entries from many streams, never more than wanted in all.
///
/// `KEYS`: the streams, lane by lane, as many in each. `ARGV`: group, consumer, limit, lanes, burst, then
/// the streak of each lane, then where to begin in each lane. Answers with the entries as
/// `{stream, entry}`, what went wrong as `{stream, error}`, the new streaks and the new beginnings.
pub(crate) static TAKE: Script = Script::new(
    r"local limit, lanes, burst = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local width = #KEYS / lanes
local streak, from, empty, taken, errors = {}, {}, {}, {}, {}
for lane = 1, lanes do streak[lane], from[lane] = tonumber(ARGV[5 + lane]), tonumber(ARGV[5 + lanes + lane]) end
local function read(lane, want)
  local got, share, seen = 0, math.max(1, math.floor(want / width)), false
  repeat
    seen = false
    for step = 1, width do
      if got >= want then break end
      local at = (lane - 1) * width + from[lane] + 1
      from[lane] = (from[lane] + 1) % width
      if not empty[at] then
        local ask = math.min(share, want - got)
        local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ask, 'STREAMS', KEYS[at], '>')
        if reply and reply.err then
          errors[#errors + 1], empty[at] = {at, reply.err}, true
        else
          local entries = reply and reply[1] and reply[1][2] or {}
          for _, entry in ipairs(entries) do taken[#taken + 1] = {at, entry} end
          got, seen = got + #entries, seen or #entries > 0
          if #entries < ask then empty[at] = true end
        end
      end
    end
  until got >= want or not seen
  return got
end
local done = {}
local function lower(lane)
  for other = lane + 1, lanes do if not done[other] then return true end end
  return false
end
while #taken < limit do
  local lane = nil
  for candidate = 1, lanes do
    if not done[candidate] then
      if streak[candidate] < burst or not lower(candidate) then lane = candidate break end
    end
  end
  if not lane then break end
  local want = limit - #taken
  if lower(lane) then want = math.min(want, burst - streak[lane]) end
  for higher = 1, lane - 1 do if not done[higher] then want = 1 end end
  local got = read(lane, want)
  if got < want then done[lane] = true end
  if got > 0 then
    for higher = 1, lane - 1 do streak[higher] = 0 end
    streak[lane] = math.min(streak[lane] + got, burst)
  end
end
return {taken, errors, streak, from}",
);

/// How scripts begin that are about entries of one stream. `KEYS`: stream. `ARGV`: group, consumer, and more; at the end
/// the entries, in the order of their ids.
///
/// `look(from)` looks at all entries from that argument on at once. `mine(id)` answers whether the entry is this
/// consumer's, whether it is anybody's and how often it was delivered; it is nobody's when the stream or the group is gone.
/// Its fourth answer is an error that the script has to give back.
macro_rules! entries {
    ($script:literal) => {
        concat!(
            r"local known = {}
local function look(from)
  if from > #ARGV then return end
  local count = 2 * (#ARGV - from + 1)
  local page = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[from], ARGV[#ARGV], count, ARGV[2])
  if page.err then return end
  for _, entry in ipairs(page) do known[entry[1]] = entry[4] end
end
local function mine(id)
  if known[id] then return true, true, known[id] end
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if not pending.err then
    local entry = pending[1]
    return entry and entry[2] == ARGV[2], entry ~= nil, entry and entry[4]
  end
  local word = string.match(pending.err, '^%u+')
  if word == 'NOGROUP' or word == 'WRONGTYPE' then return false, false end
  return false, false, nil, pending
end
",
            $script
        )
    };
}

/// Looks at pending entries of many streams at once: an idle worker asks seldom, whatever it subscribes to. `KEYS`: the
/// streams. `ARGV`: group, entries of each stream at most, consumer or nothing for all, then where to begin in each
/// stream. Answers with a page for each.
pub(crate) static PENDING: Script = Script::new(
    r"local pages = {}
for i = 1, #KEYS do
  local page
  if ARGV[3] == '' then page = redis.pcall('XPENDING', KEYS[i], ARGV[1], ARGV[3 + i], '+', ARGV[2])
  else page = redis.pcall('XPENDING', KEYS[i], ARGV[1], ARGV[3 + i], '+', ARGV[2], ARGV[3]) end
  if page.err then return page end
  pages[i] = page
end
return pages",
);

/// Renews what is still this consumer's. `ARGV`: group, consumer, entries. Answers for each entry 1 (renewed),
/// 2 (another's) or 0 (gone).
pub(crate) static RENEW: Script = Script::new(entries!(
    r"local answers = {}
look(3)
for i = 3, #ARGV do
  local is_mine, is_held, _, failed = mine(ARGV[i])
  if failed then return failed end
  answers[#answers + 1] = is_held and 2 or 0
  if is_mine then
    local renewed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    answers[#answers] = #renewed > 0 and 1 or 0
  end
end
return answers"
));

/// Settles what is this consumer's: acknowledged and deleted. `ARGV`: group, consumer, entries. Answers how many.
///
/// To delete an entry by its id, Redis walks through the hundred around it. So the beginning of the stream, where nothing
/// is left to do, is cut off instead: what lies before the first pending entry, and if nothing is pending, what was delivered.
pub(crate) static ACK: Script = Script::new(entries!(
    r"look(3)
local settled = {}
for i = 3, #ARGV do
  local is_mine, _, _, failed = mine(ARGV[i])
  if failed then return failed end
  if is_mine then settled[#settled + 1] = ARGV[i] end
end
if #settled == 0 then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], unpack(settled))
local function parts(id)
  local time, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(time), tonumber(number)
end
local exact = 2 ^ 53
local bound = nil
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
if pending[1] > 0 then bound = pending[2]
else
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local fields = {}
    for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
    if fields.name == ARGV[1] then
      local time, number = parts(fields['last-delivered-id'])
      if number + 1 < exact then bound = string.format('%.0f-%.0f', time, number + 1) end
    end
  end
end
local left = {}
local end_time, end_number
if bound then end_time, end_number = parts(bound) end
for _, id in ipairs(settled) do
  local time, number = parts(id)
  local before = bound and number < exact and end_number < exact
    and (time < end_time or (time == end_time and number < end_number))
  if not before then left[#left + 1] = id end
end
if #left < #settled then redis.call('XTRIM', KEYS[1], 'MINID', '=', bound) end
if #left > 0 then redis.call('XDEL', KEYS[1], unpack(left)) end
return #settled"
));

/// Hands back what is this consumer's, as idle for so many milliseconds. `ARGV`: group, consumer, the consumer that it
/// goes to, milliseconds, entries. Answers how many.
pub(crate) static HAND_BACK: Script = Script::new(entries!(
    r"local count = 0
look(5)
for i = 5, #ARGV do
  local is_mine, _, _, failed = mine(ARGV[i])
  if failed then return failed end
  if is_mine then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[i], 'IDLE', ARGV[4], 'JUSTID')
    count = count + 1
  end
end
return count"
));

/// Puts back what is this consumer's and was never looked at, at the end of the stream, where waiting readers find
/// it at once. `ARGV`: group, consumer, entries. Answers how many.
pub(crate) static PUT_BACK: Script = Script::new(entries!(
    r"local count = 0
look(3)
for i = 3, #ARGV do
  local is_mine, _, _, failed = mine(ARGV[i])
  if failed then return failed end
  if is_mine then
    local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
    if entry then
      local again = redis.pcall('XADD', KEYS[1], '*', unpack(entry[2]))
      if type(again) == 'table' and again.err then return again end
    end
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
    redis.call('XDEL', KEYS[1], ARGV[i])
    count = count + 1
  end
end
return count"
));

/// Takes entries again that are this consumer's already. `ARGV`: group, consumer, entries. Answers with the entries.
pub(crate) static RECLAIM_OWN: Script = Script::new(entries!(
    r"local taken = {}
look(3)
for i = 3, #ARGV do
  local is_mine, _, times, failed = mine(ARGV[i])
  if failed then return failed end
  if is_mine then
    local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'RETRYCOUNT', times)[1]
    if entry then taken[#taken + 1] = entry end
  end
end
return taken"
));

/// Deletes consumers that hold nothing: this one, or when the name is empty, those that have been idle for so many
/// milliseconds. `KEYS`: stream. `ARGV`: group, consumer, milliseconds. Answers how many.
pub(crate) static DELETE_CONSUMERS: Script = Script::new(
    r"local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end
local count = 0
for _, info in ipairs(consumers) do
  local fields = {}
  for i = 1, #info, 2 do fields[info[i]] = info[i + 1] end
  local meant = fields.name == ARGV[2] or (ARGV[2] == '' and fields.idle > tonumber(ARGV[3]))
  if meant and fields.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields.name)
    count = count + 1
  end
end
return count",
);

/// A script and, once Redis has told it, its name.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    hash: OnceCell<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self { text, hash: OnceCell::const_new() }
    }

    /// Runs it, by its name if Redis knows it.
    pub(crate) async fn run(&self, client: &Client, keys: Vec<String>, args: Vec<String>) -> Result<Value, Error> {
        let load = || async { client.script_load::<String, _>(self.text).await };
        let hash = self.hash.get_or_try_init(load).await?;
        match client.evalsha(hash.as_str(), keys.clone(), args.clone()).await {
            // Redis was restarted or its scripts were flushed. This caches it again.
            Err(error) if classify(&error) == Trouble::NoScript => client.eval(self.text, keys, args).await,
            answer => answer,
        }
    }
}
